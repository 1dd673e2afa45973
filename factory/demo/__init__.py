"""The offline demonstration: real documentation of what is installed, served, crawled and curated."""
