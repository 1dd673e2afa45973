"""A small, polite crawler: HTTP in, gzipped WARC out."""
