"""Keys beside documents: documents that share one are linked."""
