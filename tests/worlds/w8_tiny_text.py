"""World W8: four kinds of text that nobody confuses, made from a seed: code, an encyclopaedia, dialogue and noise.

Every document is a few lines from the grammar of its kind. Code is nearly all template, the encyclopaedia has more to fill
in, dialogue is short and varied for its length, and noise has nothing to learn: its bytes are drawn from 57 evenly, so log2 57
= 5.83 bits each is the best there is. A small model that learnt from equally many of each finds bytes easy in this order.
"""

import numpy as np

GENRES = ("code", "wiki", "dialogue", "noise")

NAMES = ["count", "total", "index", "value", "result", "width", "height", "buffer", "offset", "length"]
PLACES = ["Arden", "Belmont", "Corwen", "Dalby", "Elmira", "Fenwick", "Garston", "Hartwell", "Ilford", "Jarrow"]
SUBJECTS = ["river", "village", "railway", "castle", "abbey", "bridge", "harbour", "forest", "mill", "canal"]
PEOPLE = ["Anna", "Bruno", "Clara", "David", "Emma"]
LINES = (
    "How are you today?",
    "I am fine, thank you.",
    "Did you see the game last night?",
    "No, I was at work until late.",
    "Shall we meet tomorrow?",
    "Yes, at the usual place.",
    "What time is it?",
    "It is almost noon.",
)
NOISE = list("abcdefghijklmnopqrstuvwxyz0123456789 .,;:!?#$%&*()[]{}<>/")


def documents(genre: str, count: int, seed: int) -> list[str]:
    """So many documents of a kind; the first ones are the same whatever the count."""
    random = np.random.default_rng([seed, GENRES.index(genre)])
    return [_MAKE[genre](random) for _ in range(count)]


def corpus(count: int, seed: int, genres: tuple[str, ...] = GENRES) -> list[tuple[str, str]]:
    """(kind, text), so many of each kind, the kinds in turn."""
    made = {genre: documents(genre, count, seed) for genre in genres}
    return [(genre, made[genre][number]) for number in range(count) for genre in genres]


def _code(random: np.random.Generator) -> str:
    name, one, two = random.choice(NAMES, 3, replace=False)
    limit = random.integers(2, 100)
    body = f"    {one} = 0\n    for {two} in range({limit}):\n        {one} = {one} + {two}\n    return {one}\n"
    return f"def compute_{name}({two}):\n{body}"


def _wiki(random: np.random.Generator) -> str:
    place, other = random.choice(PLACES, 2, replace=False)
    subject, thing = random.choice(SUBJECTS, 2, replace=False)
    year = random.integers(1200, 1950)
    return (
        f"The {subject} of {place} is first mentioned in {year}. It lies {random.integers(2, 40)} miles from {other}, "
        f"near an old {thing}. After {year + random.integers(5, 60)} the {subject} was rebuilt.\n"
    )


def _dialogue(random: np.random.Generator) -> str:
    one, two = random.choice(PEOPLE, 2, replace=False)
    begin = int(random.integers(0, len(LINES) // 2)) * 2
    return f"{one}: {LINES[begin]}\n{two}: {LINES[begin + 1]}\n"


def _noise(random: np.random.Generator) -> str:
    return "".join(random.choice(NOISE, 120)) + "\n"


_MAKE = {"code": _code, "wiki": _wiki, "dialogue": _dialogue, "noise": _noise}
