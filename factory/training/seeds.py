"""The seeds of a training: those of `factory.core.seeds`."""

from factory.core.seeds import seed_for

__all__ = ["seed_for"]
