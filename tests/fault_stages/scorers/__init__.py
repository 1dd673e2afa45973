"""Scorers that misbehave."""
