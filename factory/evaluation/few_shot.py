"""Examples before a question: which ones, and how they are joined. Deterministic, and never the question itself.

From a file of examples the first ones are taken, in its order, so that every question has the same prompt and what is
computed of it is shared. Without such a file each question has its own, drawn from the other items of its task by the seed
and the item's id: which other items are scored changes nothing.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from factory.core.errors import InputError
from factory.core.seeds import seed_for
from factory.evaluation.forms import Item


def shot(item: Item) -> str:
    """An item with its answer."""
    return item.contexts[item.gold] + item.continuations[item.gold]


def with_first(items: Sequence[Item], examples: Sequence[Item], count: int, between: str) -> list[Item]:
    """The items after the first `count` examples."""
    if len(examples) < count:
        raise InputError(f"evaluate: {count} examples asked, and their file has {len(examples)}. Ask for fewer.")
    prompt = "".join(shot(example) + between for example in examples[:count])
    return [_after(prompt, item) for item in items]


def with_drawn(items: Sequence[Item], pool: Sequence[Item], count: int, between: str, seed: int) -> list[Item]:
    """The items, each after `count` others of the pool."""
    if len(pool) <= count:
        raise InputError(
            f"evaluate: {count} examples asked of the {len(pool)} items of the task, and none may be the question itself. "
            "Ask for fewer, or name a file with `shots`."
        )
    return [_after(_prompt(item, pool, count, between, seed), item) for item in items]


def _prompt(item: Item, pool: Sequence[Item], count: int, between: str, seed: int) -> str:
    drawn = random.Random(seed_for(seed, f"shots {item.id}")).sample(range(len(pool)), count + 1)
    others = [pool[at] for at in drawn if pool[at].id != item.id]
    return "".join(shot(other) + between for other in others[:count])


def _after(prompt: str, item: Item) -> Item:
    # What is scored does not change: a context that was empty is the beginning of a line, after a delimiter.
    return replace(item, contexts=tuple(prompt + context for context in item.contexts))
