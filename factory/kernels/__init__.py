"""Compiled loops over Arrow buffers: arrays in, arrays out; no files, no settings, no Python object per document."""
