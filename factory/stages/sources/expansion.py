"""When compressed bytes are a bomb: text unpacks to some ten times its size, and what gives far more, and a lot of it, is nothing
but repetition made to keep a reader busy. What a part reads is so bounded by what it was given to read.
"""

FREE = 64 << 20
EXPANSION = 500
BOMB = f"too_large: more than {FREE >> 20} MB and {EXPANSION} times the packed bytes; what follows is left out"


def is_bomb(*, unpacked: int, packed: int) -> bool:
    return unpacked > FREE and unpacked > EXPANSION * packed
