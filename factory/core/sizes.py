"""Sizes as people write them: `512MB`, `1.5GB`, `64MiB`."""

import re

from factory.core.errors import InputError

UNITS = {
    "": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
LEAST = 16 << 20
DEFAULT_MEMORY = "1GiB"  # of one task of a global step

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([kmgt]i?b)?", re.IGNORECASE)


def read_size(text: str, least: int = LEAST) -> int:
    """The bytes a size means; raises InputError for what is none, or less than `least`."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise InputError(f"'{text}' is no size. Write a number and a unit, such as 512MB or 4GB.")
    size = int(float(found[1]) * UNITS[(found[2] or "").lower()])
    if size < least:
        raise InputError(f"{text} is too little to work with: at least {least >> 20} MiB.")
    return size
