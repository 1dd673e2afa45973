"""What a model gives away of its training texts: Min-K% Prob, the mean of a text's least likely tokens (arXiv 2310.16789).

In: texts that were trained on, and others drawn from the same place (held out of the same shard: texts of other dates are
told apart by their dates). Out: for each text the mean log-probability of its lowest k %, higher meaning "seen", beside
three simpler scores; how well each separates the two; and the *null*: the same between two halves of the members, which has
to be about ½ for any of it to mean something.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import xxhash

from factory.core.errors import InputError
from factory.evaluation.likelihood import Progress, TokenModel, likelihoods, token_nats
from factory.evaluation.records import chosen, has_values, records, text_of, value_of
from factory.evaluation.separation import auc, hits_at
from factory.evaluation.tasks import Membership

MEMBER, OTHER = "member", "other"
SCORES = ("min_k", "loss", "lowercase", "zlib")


def min_k(nats: Sequence[float], k: float = 0.2) -> float:
    """The mean log-probability of the k least likely share of tokens, at least one."""
    lowest = sorted(nats, reverse=True)[: max(1, int(len(nats) * k))]
    return -math.fsum(lowest) / len(lowest)


def score_texts(
    model: TokenModel, config: Membership, files: Mapping[str, bytes], progress: Progress
) -> list[dict[str, Any]]:
    """A row for each text; its value is Min-K% Prob."""
    named = _texts(config, files)
    texts = [text for _, text, _ in named]
    each = token_nats(model, texts)
    progress(len(texts))
    lower = [one.nats / one.tokens for one in likelihoods(model, [("", text.lower()) for text in texts])]
    rows = []
    for (item, text, member), nats, small in zip(named, each, lower, strict=True):
        size, total = len(text.encode()), math.fsum(nats)
        group = MEMBER if member else OTHER
        found = {
            "min_k": min_k(nats, config.k),
            "loss": -total / len(nats),
            "lowercase": -(total / len(nats)) / small if small > 0 else math.nan,
            "zlib": -total / len(zlib.compress(text.encode())),
        }
        finite = {name: score for name, score in found.items() if math.isfinite(score)}
        rows.append(
            {
                "domain": group,
                "group": group,
                "item": item,
                "value": finite.get("min_k"),
                "weight": 1.0,
                "nats": total,
                "bytes": size,
                "tokens": len(nats),
                "truncated": False,
                "extra": finite,
            }
        )
    return rows


def separated(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each score: AUC, hits at 5 % false alarms, and the null AUC of two halves of the members."""
    made: dict[str, Any] = {}
    for name in SCORES:
        groups: dict[str, list[float]] = {MEMBER: [], OTHER: []}
        halves: dict[int, list[float]] = {0: [], 1: []}
        for row in rows:
            found = dict(row.get("extra") or {}).get(name)
            if found is None:
                continue
            groups[row["group"]].append(found)
            if row["group"] == MEMBER:
                halves[xxhash.xxh3_64_intdigest(row["item"].encode()) & 1].append(found)
        made[name] = {
            "auc": auc(groups[MEMBER], groups[OTHER]),
            "hits_at_5_percent": hits_at(groups[MEMBER], groups[OTHER]),
            "null_auc": auc(halves[1], halves[0]),
        }
    return made


def _texts(config: Membership, files: Mapping[str, bytes]) -> list[tuple[str, str, bool]]:
    sides: dict[bool, list[tuple[str, str, bool]]] = {True: [], False: []}
    for name in sorted(files):
        for number, record in records(name, files[name]):
            if not has_values(record, config.where):
                continue
            place = f"{name}, line {number} (from 0)"
            member = value_of(record, config.member, place)
            if member not in (True, False, 0, 1):
                raise InputError(f"{place}: '{config.member}' is {member!r:.60}; true or false is wanted.")
            sides[bool(member)].append((f"{name}:{number}", text_of(record, config.text, place), bool(member)))
    empty = [name for name, side in (("trained on", sides[True]), ("held out", sides[False])) if not side]
    if empty:
        raise InputError(
            f"evaluate: no text is marked as {' or as '.join(empty)} by '{config.member}'. Both are needed."
        )
    return [side[at] for side in sides.values() for at in chosen([item for item, _, _ in side], config.limit)]
