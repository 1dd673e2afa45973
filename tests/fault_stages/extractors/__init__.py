"""Extractors that misbehave."""
