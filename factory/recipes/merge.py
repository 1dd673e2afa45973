"""Several checkpoints into one whose parameters are their average: of all, of the greedy soup of a task, or of experts by texts.

Greedy soup (arXiv:2203.05482): best first, each kept with which the average scores no worse. Experts by texts
(Branch-Train-Merge, arXiv:2208.03306): weights are the prior that the experts' posteriors on these texts give, which is where
an expert of a new domain starts from. What is chosen on a task or by texts is not judged by them.
"""

import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from factory.core.errors import InputError
from factory.evaluation.report import evaluate_files
from factory.evaluation.texts import read_texts, score_texts
from factory.mixing.merging import cached_prior, ensemble_nats, greedy_soup, posteriors

MOST_TEXTS = 100  # a moving average has forgotten more


def merge_by_weights(checkpoints: Sequence[str], out: str, weights: Sequence[float] | None = None) -> dict[str, Any]:
    """The average with these weights, which sum to 1; without them every model counts the same."""
    _check(checkpoints, out)
    return _merged(checkpoints, out, weights)


def merge_greedily(
    checkpoints: Sequence[str], out: str, task: str, *, limit: int | None = None, **settings: Any
) -> dict[str, Any]:
    """The average of those that the greedy soup of a task's file takes, with the scores it was chosen by."""
    _check(checkpoints, out)
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    single = {path: _score(path, task, limit, settings) for path in checkpoints}
    sign = -1.0 if single[checkpoints[0]]["higher_is_better"] else 1.0
    tried: list[dict[str, Any]] = []

    def score(names: tuple[str, ...]) -> float:
        with tempfile.TemporaryDirectory(prefix=".soup.", dir=os.path.dirname(os.path.abspath(out))) as folder:
            _merged(names, place := os.path.join(folder, "average"), None)
            found = _score(place, task, limit, settings)["score"]
        tried.append({"models": list(names), "score": found})
        return sign * float(found)

    chosen = greedy_soup({path: sign * float(one["score"]) for path, one in single.items()}, score)
    return {
        **_merged(chosen, out, None),
        "task": task,
        "metric": single[checkpoints[0]]["metric"],
        "scores": {path: one["score"] for path, one in single.items()},
        "tried": tried,
    }


def merge_by_texts(
    checkpoints: Sequence[str], out: str, texts: str, *, limit: int | None = None, **settings: Any
) -> dict[str, Any]:
    """The average by how likely each makes the texts, with nats per token of each, of their ensemble and of the average."""
    _check(checkpoints, out)
    read = read_texts(texts, limit or MOST_TEXTS)
    nats = [score_texts(path, read, **settings) for path in checkpoints]
    stacked = [np.stack([own[place] for own in nats]) for place in range(len(read))]
    prior = cached_prior([posteriors(one)[-1] for one in stacked])
    made = _merged(checkpoints, out, prior.tolist())
    lost: dict[str, float] = {path: _mean(own) for path, own in zip(checkpoints, nats, strict=True)}
    lost |= {
        "ensemble": _mean([ensemble_nats(one) for one in stacked]),
        "average": _mean(score_texts(out, read, **settings)),
    }
    return {**made, "texts": len(read), "nats_per_token": lost}


def _check(checkpoints: Sequence[str], out: str) -> None:
    if len(set(map(os.path.realpath, checkpoints))) < max(2, len(checkpoints)):
        raise InputError(f"merge: two or more different checkpoints are meant, not {', '.join(checkpoints)}.")
    if os.path.exists(out):
        raise InputError(f"merge: '{out}' is there already. Name a folder that is not.")


def _merged(checkpoints: Sequence[str], out: str, weights: Sequence[float] | None) -> dict[str, Any]:
    from factory.training.merging import merge_checkpoints

    made = merge_checkpoints(checkpoints, out, weights=weights)
    return {
        "checkpoint": out,
        "weights": dict(zip(checkpoints, made["weights"], strict=True)),
        "model_digest": made["model_digest"],
    }


def _score(checkpoint: str, task: str, limit: int | None, settings: dict[str, Any]) -> dict[str, Any]:
    ((label, found),) = evaluate_files(checkpoint, [task], limit=limit, **settings)["tasks"].items()
    if found["score"] is None:
        raise InputError(f"merge: task '{label}' gives no score for '{checkpoint}'. Choose by another one.")
    chosen: dict[str, Any] = found
    return chosen


def _mean(nats: Sequence[Any]) -> float:
    return float(np.concatenate(nats).mean())
