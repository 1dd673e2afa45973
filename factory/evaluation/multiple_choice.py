"""Multiple choice by log-likelihood: the choice whose text is likeliest after its context, in one of five measures.

| raw | ln p | | char, bytes, token | ln p / length in that unit | | pmi | ln p - ln p after "Answer:" alone |

Lengths are those of the continuation as scored, with its leading space (OLMES, arXiv 2406.08446). Of equally good choices
the first is taken, and the row says that there was a tie. A row keeps what every other measure needs.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from factory.core.errors import InputError
from factory.evaluation.few_shot import with_drawn, with_first
from factory.evaluation.forms import ANNOTATED, FORMS, Item, find_form, read_item
from factory.evaluation.likelihood import Likelihood, Model, Progress, Reading, likelihoods
from factory.evaluation.records import chosen, has_values, records
from factory.evaluation.tasks import MultipleChoice, Normalization

UNCONDITIONAL = "Answer:"  # the context of pmi, as in OLMES

# Scores closer than this are equal: in float32 the place in a batch moves them by about as much, and must not decide.
TIE = 1e-6


class Choice(NamedTuple):
    """The choice taken, and whether another was as good."""

    taken: int
    tied: bool


def read_items(
    config: MultipleChoice, files: Mapping[str, bytes], shots: Mapping[str, bytes] | None = None
) -> tuple[list[Item], Normalization]:
    """The items of a task in the order of its files, with their examples, and how their choices are compared."""
    items, form = _items(config, files, config.where)
    own = "char" if form == ANNOTATED else FORMS[form].normalize
    normalize: Normalization = config.normalize or ("raw" if config.formulation == "letters" else own)
    shared = [item.id for item in items if len(set(item.contexts)) > 1 or "" in item.contexts]
    if normalize == "pmi" and shared:
        raise InputError(f"{shared[0]}: pmi compares continuations of one context, and form '{form}' has no such.")
    kept = [items[at] for at in chosen([item.id for item in items], config.limit)]
    if config.few_shot and shots is not None:
        kept = with_first(kept, _items(config, shots, None)[0], config.few_shot, config.between)
    elif config.few_shot:
        kept = with_drawn(kept, items, config.few_shot, config.between, config.shot_seed)
    return kept, normalize


def _items(
    config: MultipleChoice, files: Mapping[str, bytes], where: Mapping[str, str | list[str]] | None
) -> tuple[list[Item], str]:
    form = None
    items = []
    for name in sorted(files):
        for number, record in records(name, files[name]):
            if not has_values(record, where):
                continue
            place = f"{name}, line {number} (from 0)"
            form = form or find_form(config, record, place)
            items.append(read_item(form, config, record, item=f"{name}:{number}", place=place))
    if form is None:
        raise InputError(f"evaluate: no item in {', '.join(sorted(files))} that the task asks for ({where}).")
    return items, form


def score_items(
    model: Model,
    items: Sequence[Item],
    normalize: Normalization,
    progress: Progress,
    *,
    reading: Reading = "factory",
    unconditional: str | None = None,
    context: int | None = None,
) -> list[dict[str, Any]]:
    """The rows of items; choices are also scored after `unconditional` alone, where it is given."""
    if normalize == "pmi" and unconditional is None:
        unconditional = UNCONDITIONAL
    pairs = [pair for item in items for pair in zip(item.contexts, item.continuations, strict=True)]
    alone: Mapping[str, Likelihood] = {}
    if unconditional is not None:
        texts = list(dict.fromkeys(continuation for _, continuation in pairs))
        asked = [(unconditional, text) for text in texts]
        alone = dict(zip(texts, likelihoods(model, asked, reading=reading, context=context), strict=True))
    scores = iter(likelihoods(model, pairs, progress, reading=reading, context=context))
    return [item_row(item, [next(scores) for _ in item.continuations], alone, normalize) for item in items]


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


def renormalize(row: Mapping[str, Any], normalize: Normalization) -> Choice:
    """The choice a stored row comes to in another measure; raises InputError where the row does not hold it."""
    nats = row["choice_nats"]
    if not nats or len(nats) < 2:
        raise InputError(f"item {row['item']} has no choices to compare.")
    if normalize == "pmi":
        if not row["choice_alone_nats"]:
            raise InputError(
                f"item {row['item']}: its choices were not scored without the question. Evaluate the task with pmi once."
            )
        return best_choice([alone - own for alone, own in zip(row["choice_alone_nats"], nats, strict=True)])
    lengths = [1] * len(nats) if normalize == "raw" else row[_COLUMNS[normalize]]
    return best_choice([-own / length for own, length in zip(nats, lengths, strict=True)])


_COLUMNS = {"char": "choice_chars", "bytes": "choice_bytes", "token": "choice_tokens"}


def _lengths(texts: Sequence[str], found: Sequence[Likelihood], normalize: Normalization) -> list[int]:
    if normalize == "char":
        return [len(text) for text in texts]
    if normalize == "bytes":
        return [len(text.encode()) for text in texts]
    if normalize == "token":
        return [one.tokens for one in found]
    return [1] * len(found)


def item_row(
    item: Item, found: Sequence[Likelihood], alone: Mapping[str, Likelihood], normalize: Normalization
) -> dict[str, Any]:
    """Everything about an item's answers; null where a number is not finite."""
    gold = found[item.gold]
    size = len(item.continuations[item.gold].encode())
    measured = item.lengths_of
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
        "choice_chars": [len(text) for text in measured],
        "choice_bytes": [len(text.encode()) for text in measured],
        "choice_tokens": [one.tokens for one in found],
        "choice_alone_nats": [alone[text].nats for text in item.continuations] if alone else None,
        "truncated": any(one.truncated for one in found),
        "passage": item.passage,
    }
    if not all(math.isfinite(one.nats) for one in found):
        return row
    # Bounded measures in the task's own lengths; a pmi is no probability, so there they are of the whole text.
    lengths = _lengths(measured, found, normalize)
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
    texts = item.continuations if normalize == "pmi" else measured
    best = best_choice(choice_scores(texts, found, alone, normalize))
    return row | {"predicted": best.taken, "tied": best.tied, "value": float(best.taken == item.gold)}
