"""Seeds by name: each random choice has its own, derived from the run's, and none is a generator's running state."""

import hashlib

import numpy as np


def seed_for(seed: int, name: str) -> int:
    """63 bits from the run's seed and what the choice is for."""
    return int.from_bytes(hashlib.sha256(f"{seed}\x1f{name}".encode()).digest()[:8], "big") >> 1


def generator_for(seed: int, name: str) -> np.random.Generator:
    """Numbers that are this choice's own."""
    return np.random.default_rng(seed_for(seed, name))
