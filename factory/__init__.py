"""Corpus Factory: from raw crawls to proven training data. The library; it knows nothing of any orchestrator."""

__version__ = "0.1.0"
