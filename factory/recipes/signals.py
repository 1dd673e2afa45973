"""What the evaluated proxies of a recipe say of its tasks and scales, as plain data: noise, signal, transfer of decisions.

In: the answers of finished models, of models kept on the way (`proxy.checkpoints`), and the training losses; or a table of
scores. Everything current counts, whatever scale it was made at. Out: which tasks can be read at which scale, how early and how
small a model decides as the target does, and what laws of smaller trainings expect at the target.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from factory.core.errors import FactoryError, InputError, suggest
from factory.evaluation.decision_accuracy import decisions_by_compute, equal_compute, transfer
from factory.evaluation.early_signal import Card, cards
from factory.evaluation.noise import Floor, noise_floors
from factory.evaluation.plain import plain
from factory.evaluation.predictions import Predictions, predictions
from factory.evaluation.runs import Run
from factory.evaluation.scores import Curves, Score, curves, finals, of_runs, read_scores
from factory.recipes.evidence import place_of, runs_of
from factory.recipes.lookup import Current
from factory.recipes.steps.evaluations import kept_answers
from factory.recipes.workspace import Workspace
from factory.storage.parts import read_part

LOSS = "training loss"
POINTS = 20  # of a loss curve
COLUMNS = (
    *("task", "scale", "worth_reading", "why", "from_scale", "experiments", "seeds", "checkpoints"),
    *("monotonicity", "signal_to_noise", "mean_over_noise", "non_randomness", "ordering"),
    *("mean", "guessing", "sigma", "sigma_low", "sigma_high", "sigma_of_last_3", "spread", "spread_over_sigma"),
    *("detectable", "tells_experiments_apart"),
)


def signal(workspace: Workspace | None, table: str | None = None, control: str | None = None) -> dict[str, Any]:
    """For each task and scale the noise floor and the early-signal criteria: which tasks are worth reading."""
    scores = _scores(workspace, table, losses=True)
    floors = noise_floors(scores, control or (workspace.recipe.base if workspace is not None else None))
    found = cards(scores)
    return {
        "floors": plain(floors),
        "cards": plain(found),
        "usable": sorted({one.task for one in floors if one.usable}),
        "rows": signal_rows(floors, found),
        "curves": [_drawn(one) for one in curves(scores) if len(one.steps) > 1],
    }


def signal_rows(floors: Sequence[Floor], found: Sequence[Card]) -> list[dict[str, Any]]:
    """One row for each task and scale: COLUMNS.

    Worth reading is what passes the criteria that have a threshold; whether it tells these experiments apart is another matter.
    """
    by_place = {(one.task, one.scale): one for one in floors}
    rows = []
    for card in found:
        floor = by_place[card.task, card.scale]
        around, last = floor.sigma_interval, floor.sigma_last
        values = (
            *(
                card.task,
                card.scale,
                card.keep,
                card.why,
                card.min_scale,
                card.experiments,
                card.seeds,
                card.checkpoints,
            ),
            *(card.monotonicity, card.snr, card.raw_snr, card.non_randomness, card.ordering),
            *(floor.mean, floor.baseline, floor.sigma.sigma if floor.sigma.dof else None),
            *((around.low, around.high) if around is not None else (None, None)),
            *(
                last.sigma if last is not None and last.dof else None,
                floor.spread,
                floor.snr,
                floor.detectable,
                floor.usable,
            ),
        )
        rows.append(dict(zip(COLUMNS, plain(values), strict=True)))
    return rows


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows under COLUMNS; what is not known is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(["" if row[name] is None else row[name] for name in COLUMNS] for row in rows)
    return out.getvalue()


def transfers(workspace: Workspace | None, table: str | None = None, target: str | None = None) -> dict[str, Any]:
    """What every smaller scale and every step on the way decides at the target's end, and what laws expect there, by task."""
    scores = _scores(workspace, table, losses=False)
    sizes = _sizes(scores)
    goal = target or max(sizes, key=lambda scale: sizes[scale])
    if goal not in sizes:
        raise InputError(f"No score is of scale '{goal}'.{suggest(goal, sizes)}")
    if len(sizes) < 2 and len({one.step for one in scores}) < 2:
        raise FactoryError(
            f"Decisions are carried from one scale or step to another, and all scores are of the end of scale '{goal}'. "
            "Train the experiments at a second scale (proxy.scale), keep models on the way (proxy.checkpoints), or give a table "
            "of scores with --table."
        )
    rows = []
    for task in sorted({one.task for one in scores}):
        for scale in sorted(sizes, key=lambda name: (sizes[name], name)):
            row = _transfer(scores, task, scale, goal) if scale != goal else None
            if row is not None:
                rows.append(row)
    decided = decisions_by_compute(scores, goal)
    return {
        "target": goal,
        "rows": rows,
        "decisions": plain(decided),
        "equal_compute": plain(equal_compute(decided, goal)),
        "laws": {one.task: _law(one) for one in predictions(scores, goal)},
    }


def learning_curves(workspace: Workspace, current: Current) -> list[dict[str, Any]]:
    """The curve of every task that models on the way were asked, at each scale, as it is drawn; none where none were kept."""
    kept = _kept_runs(workspace, current)
    return [_drawn(one) for one in curves(of_runs([*runs_of(workspace, current), *kept]))] if kept else []


def _drawn(curve: Curves) -> dict[str, Any]:
    """For each experiment and step the mean over seeds, and their deviation where there are several."""
    experiments: dict[str, list[dict[str, Any]]] = {}
    for name, values in zip(curve.experiments, curve.values, strict=True):
        points = []
        for step, own in zip(curve.steps, values.T, strict=True):
            there = own[np.isfinite(own)]
            if len(there):
                deviation = float(there.std(ddof=1)) if len(there) > 1 else None
                points.append(
                    {"tokens": float(step), "mean": float(there.mean()), "sd": deviation, "seeds": len(there)}
                )
        experiments[name] = points
    return {
        "task": curve.task,
        "scale": curve.scale,
        "higher_is_better": curve.higher_is_better,
        "baseline": curve.baseline,
        "experiments": experiments,
    }


def _scores(workspace: Workspace | None, table: str | None, *, losses: bool) -> list[Score]:
    if table is not None:
        return read_scores(table)
    assert workspace is not None
    current = Current(workspace)
    scores = of_runs([*runs_of(workspace, current), *_kept_runs(workspace, current)])
    if losses:
        scores += _loss_curves(current)
    if not scores:
        raise FactoryError(
            f"No proxy of '{workspace.recipe.name}' has been evaluated yet. 'factory run' makes them, or give --table FILE."
        )
    return scores


def _kept_runs(workspace: Workspace, current: Current) -> list[Run]:
    """The models kept on the way of the recipe's experiments, each as a run that ended there."""
    names = {experiment.label for experiment in workspace.recipe.experiments}
    proxies = {(proxy.label, proxy.partition): proxy for proxy in current.of("proxies")}
    runs = []
    for evaluated in current.of("evaluations"):
        proxy = proxies.get((evaluated.label, evaluated.partition))
        if proxy is None or evaluated.label not in names:
            continue
        record, (scale, seed) = proxy.notes["record"], place_of(proxy)
        for part in kept_answers(evaluated):
            tokens = part.notes["tokens_seen"]
            facts = {
                "valid": True,
                "parameters": record["parameters"],
                "tokens_seen": tokens,
                "flops": record["flops"] * tokens / record["tokens_seen"],
            }
            runs.append(Run(evaluated.label, scale, seed, facts, read_part(workspace.store, part)))
    return runs


def _loss_curves(current: Current) -> list[Score]:
    """The training loss along the way, in so many points; an untrained model's loss is what guessing gives."""
    found = []
    for proxy in current.of("proxies"):
        record = proxy.notes["record"]
        curve = [
            (float(t), float(loss)) for _, t, loss in record["loss_curve"] if loss is not None and np.isfinite(loss)
        ]
        if not record["valid"] or not curve:
            continue
        scale, seed = place_of(proxy)
        found += [
            Score(
                task=LOSS,
                experiment=proxy.label,
                scale=scale,
                seed=seed,
                step=float(piece[-1, 0]),
                value=float(piece[:, 1].mean()),
                higher_is_better=False,
                baseline=record.get("first_loss"),
                flops=record.get("flops"),
            )
            for piece in np.array_split(np.array(curve), min(len(curve), POINTS))
        ]
    return found


def _sizes(scores: Sequence[Score]) -> dict[str, float]:
    """How large each scale is: by compute, else by parameters."""
    found: dict[str, float] = {}
    for one in scores:
        found[one.scale] = max(found.get(one.scale, 0.0), one.flops or one.parameters or 0.0)
    return found


def _transfer(scores: Sequence[Score], task: str, scale: str, goal: str) -> dict[str, Any] | None:
    own = [one for one in scores if one.task == task]
    names = sorted(
        {one.experiment for one in own if one.scale == scale} & {one.experiment for one in own if one.scale == goal}
    )
    if len(names) < 2:
        return None
    proxy, target = finals(scores, task, scale, names), finals(scores, task, goal, names)
    higher = own[0].higher_is_better
    found = transfer(proxy, target, higher_is_better=higher, key=f"{task}/{scale}/{goal}")
    return {"task": task, "scale": scale, "experiments": names, **plain(found)}


def _law(found: Predictions) -> dict[str, Any]:
    """Of each experiment: its parameters, the prediction and what was measured."""
    experiments: dict[str, Any] = {}
    for name, one in found.experiments.items():
        experiments[name] = {
            "law": one.law,
            "points": one.points,
            "parameters": plain(one.fit.parameters),
            "runs": one.fit.runs,
            "alarm": one.fit.alarm,
            "predicted": one.predicted,
            "interval": plain(one.interval),
            "measured": one.measured,
            "error": plain(one.error),
            "second_step": plain(one.step2),
        }
    return {"experiments": experiments, "crossings": plain(found.crossings)}
