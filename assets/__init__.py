"""Dagster: shows and runs what the library makes. Orchestrates and never computes; importing this package imports nothing."""
