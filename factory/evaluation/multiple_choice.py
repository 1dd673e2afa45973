"""Multiple choice by log-likelihood: the choice whose text is likeliest after its context, in one of five measures.

| raw | ln p | | char, bytes, token | ln p / length in that unit | | pmi | ln p - ln p after "Answer:" alone |

Lengths are those of the continuation as scored, with its leading space (OLMES, arXiv 2406.08446). Of equally good choices
the first is taken, and the row says that there was a tie.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from factory.core.errors import InputError
from factory.evaluation.forms import FORMS, Item, find_form, read_item
from factory.evaluation.likelihood import Likelihood, Model, Progress, likelihoods
from factory.evaluation.records import chosen, has_values, records
from factory.evaluation.tasks import MultipleChoice, Normalization

UNCONDITIONAL = "Answer:"  # the context of pmi, as in OLMES

# Scores closer than this are equal: in float32 the place in a batch moves them by about as much, and must not decide.
TIE = 1e-6


class Choice(NamedTuple):
    """The choice taken, and whether another was as good."""

    taken: int
    tied: bool


def read_items(config: MultipleChoice, files: Mapping[str, bytes]) -> tuple[list[Item], Normalization]:
    """The items of a task in the order of its files, and how their choices are compared."""
    form = None
    items = []
    for name in sorted(files):
        for number, record in records(name, files[name]):
            if not has_values(record, config.where):
                continue
            place = f"{name}, line {number} (from 0)"
            form = form or find_form(config, record, place)
            items.append(read_item(form, config, record, item=f"{name}:{number}", place=place))
    if form is None:
        raise InputError(f"evaluate: no item in {', '.join(sorted(files))} that the task asks for ({config.where}).")
    normalize = config.normalize or FORMS[form].normalize
    shared = [item.id for item in items if len(set(item.contexts)) > 1 or "" in item.contexts]
    if normalize == "pmi" and shared:
        raise InputError(f"{shared[0]}: pmi compares continuations of one context, and form '{form}' has no such.")
    return [items[at] for at in chosen([item.id for item in items], config.limit)], normalize


def score_items(
    model: Model, items: Sequence[Item], normalize: Normalization, progress: Progress
) -> list[dict[str, Any]]:
    pairs = [pair for item in items for pair in zip(item.contexts, item.continuations, strict=True)]
    alone: Mapping[str, Likelihood] = {}
    if normalize == "pmi":
        texts = sorted({continuation for _, continuation in pairs})
        alone = dict(zip(texts, likelihoods(model, [(UNCONDITIONAL, text) for text in texts]), strict=True))
    scores = iter(likelihoods(model, pairs, progress))
    return [_row(item, [next(scores) for _ in item.continuations], alone, normalize) for item in items]


def choice_scores(
    texts: Sequence[str], found: Sequence[Likelihood], alone: Mapping[str, Likelihood], normalize: Normalization
) -> list[float]:
    """What is compared, the higher the better."""
    if normalize == "pmi":
        return [alone[text].nats - one.nats for text, one in zip(texts, found, strict=True)]
    return [-one.nats / length for one, length in zip(found, _lengths(texts, found, normalize), strict=True)]


def best_choice(scores: Sequence[float]) -> Choice:
    best = max(scores)
    equal = [index for index, score in enumerate(scores) if score >= best - TIE]
    return Choice(equal[0], len(equal) > 1)


def _lengths(texts: Sequence[str], found: Sequence[Likelihood], normalize: Normalization) -> list[int]:
    if normalize == "char":
        return [len(text) for text in texts]
    if normalize == "bytes":
        return [len(text.encode()) for text in texts]
    if normalize == "token":
        return [one.tokens for one in found]
    return [1] * len(found)


def _row(
    item: Item, found: list[Likelihood], alone: Mapping[str, Likelihood], normalize: Normalization
) -> dict[str, Any]:
    gold = found[item.gold]
    size = len(item.continuations[item.gold].encode())
    row: dict[str, Any] = {
        "domain": item.domain,
        "item": item.id,
        "weight": 1.0,
        "gold": item.gold,
        "tied": False,
        "baseline": 0.0 if len(found) == 1 else 1 / len(found),
        "nats": gold.nats,
        "bytes": size,
        "tokens": gold.tokens,
        "bpb_gold": gold.nats / (math.log(2) * size),
        "choice_nats": [one.nats for one in found],
        "truncated": any(one.truncated for one in found),
    }
    if not all(math.isfinite(one.nats) for one in found):
        return row
    # Bounded measures in the task's own lengths; a pmi is no probability, so there they are of the whole text.
    lengths = _lengths(item.continuations, found, normalize)
    shares = [math.exp(-one.nats / length) for one, length in zip(found, lengths, strict=True)]
    total = math.fsum(shares)
    row["correct_prob"], row["total_prob"] = shares[item.gold], total
    if len(found) == 1:
        row["predicted"] = item.gold if gold.greedy else None
        return row | {"value": float(gold.greedy)}
    # From differences of logarithms: p of a long text is below the smallest double.
    row["norm_prob"] = 1 / math.fsum(
        math.exp(min(700.0, gold.nats / lengths[item.gold] - one.nats / length))
        for one, length in zip(found, lengths, strict=True)
    )
    row["margin"] = shares[item.gold] - max(share for at, share in enumerate(shares) if at != item.gold)
    best = best_choice(choice_scores(item.continuations, found, alone, normalize))
    return row | {"predicted": best.taken, "tied": best.tied, "value": float(best.taken == item.gold)}
