"""Verdicts over columns; filters never drop."""
