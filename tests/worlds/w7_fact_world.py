"""Facts about invented people, each told a known number of times, and a small associative memory that reads them once.

Every fact is a person, one of six attributes and a value; it is told in n documents, n of {1, 2, 5, 20, 100}, in one of four
wordings. The memory is a softmax over values from a random vector of (person, attribute), trained by one pass of stochastic
gradient descent: facts interfere, so that what is told more often is recalled more surely, as in a model of text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COUNTS = (1, 2, 5, 20, 100)
ATTRIBUTES = ("city", "craft", "colour", "instrument", "river", "tree")
VALUES = 20  # of each attribute
WORDINGS = (
    "The {attribute} of {person} is {value}.",
    "{person} names {value} as {attribute}.",
    "Asked for a {attribute}, {person} said {value}.",
    "{value}: this is the {attribute} that {person} chose.",
)


@dataclass(frozen=True)
class Fact:
    person: str
    attribute: str
    value: str
    count: int


def make_facts(people: int, *, seed: int = 0) -> list[Fact]:
    """Six facts a person; each count is as frequent as the others."""
    rng = np.random.default_rng(seed)
    counts = rng.permutation(np.resize(COUNTS, people * len(ATTRIBUTES)))
    facts = []
    for person in range(people):
        for at, attribute in enumerate(ATTRIBUTES):
            value = f"{attribute.capitalize()}{rng.integers(VALUES):02d}"
            facts.append(Fact(f"Person{person:04d}", attribute, value, int(counts[person * len(ATTRIBUTES) + at])))
    return facts


def tell(facts: Sequence[Fact], *, seed: int = 0) -> list[tuple[int, str]]:
    """The documents, shuffled: the number of the fact and the text."""
    rng = np.random.default_rng(seed + 1)
    told = np.repeat(np.arange(len(facts)), [fact.count for fact in facts])
    wordings = rng.integers(len(WORDINGS), size=len(told))
    documents = []
    for at in rng.permutation(len(told)):
        fact = facts[told[at]]
        text = WORDINGS[wordings[at]].format(person=fact.person, attribute=fact.attribute, value=fact.value)
        documents.append((int(told[at]), text))
    return documents


def recalled(
    facts: Sequence[Fact], order: Sequence[int], *, width: int = 512, rate: float = 0.3, seed: int = 0
) -> np.ndarray:
    """Which facts a memory that read the facts in this order answers rightly among the values of their attribute."""
    rng = np.random.default_rng(seed + 2)
    keys = rng.normal(size=(len(facts), width)) / np.sqrt(width)
    names = sorted({fact.value for fact in facts})
    target = np.array([names.index(fact.value) for fact in facts])
    kind = np.array([name.rstrip("0123456789") for name in names])
    allowed = np.array([[name == fact.attribute.capitalize() for name in kind] for fact in facts])
    weights = np.zeros((width, len(names)))
    sequence = np.asarray(order)
    for begin in range(0, len(sequence), 16):
        now = sequence[begin : begin + 16]
        logits = np.where(allowed[now], keys[now] @ weights, -np.inf)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        shares[np.arange(len(now)), target[now]] -= 1
        weights -= rate * keys[now].T @ shares
    answers = np.where(allowed, keys @ weights, -np.inf).argmax(1)
    return answers == target
