"""What tokens, searches, trainings and evaluations would take: a line for each dataset, and a sum for each experiment and search.

Operations are known from the scale and the tokens. Seconds of a token come from the records of finished trainings of the same
shape where the store has some, else from a few steps here (`factory.recipes.trial_training`); the number of trials from asking
the searcher (`factory.recipes.rehearsal`); the tokens of all items from reading the tasks. What is there costs nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from factory.core.errors import FactoryError
from factory.core.manifest import Manifest
from factory.recipes.costs import costs
from factory.recipes.recipe import Experiment, Recipe, Search
from factory.recipes.rehearsal import Rehearsal, rehearse
from factory.recipes.scale import proxy_scale
from factory.recipes.steps.search import kept_trials, problem_of
from factory.recipes.trial import LEAST_SPREAD, UNKNOWN_SPREAD, Found
from factory.recipes.trial_training import EvaluationRate, TrainingRate, Tried
from factory.recipes.work import Work
from factory.recipes.workspace import Status, Workspace
from factory.training.flops import exact_flops
from factory.training.scales import Scale

PROOF = ("tokens", "pools", "searches", "proxies", "evaluations")
ENOUGH = 3  # finished trainings whose rate is nearer than a trial's
KEPT = ("expert", "base")  # roles of trials whose models stay
TRIAL_BYTES = 8_000  # a trial's own records


class Foreseen:
    """Lines for what the sample alone does not tell; `expected` is how many documents there are for each of the sample."""

    def __init__(
        self, workspace: Workspace, found: Found, states: Mapping[str, Status], expected: float, *, again: bool
    ) -> None:
        self.workspace, self.found, self.states, self.again = workspace, found, states, again
        self.expected = expected
        self.recorded = recorded(workspace) if found.tried else {}
        self.rehearsed: dict[str, Rehearsal | str] = {}

    @property
    def recipe(self) -> Recipe:
        return self.workspace.recipe

    def line(self, kind: str, label: str) -> dict[str, Any]:
        """What a dataset of this kind would take; `unknown` says why it is not known."""
        if kind in ("tokens", "pools"):
            return self._tokens(kind, label)
        if kind == "searches":
            return self._search(self.recipe.search(label))
        tried = self._tried(label)
        if isinstance(tried, str):
            return {**self._work(kind, label), "unknown": tried}
        return self._training(label, tried) if kind == "proxies" else self._evaluation(label, tried)

    # --- tokens

    def _tokens(self, kind: str, label: str) -> dict[str, Any]:
        pooled = self.recipe.pool_of(label) if label not in self.found.pools else label
        rate, known = self.found.rates.get(("pools", pooled)), self.found.pools.get(pooled)
        if rate is None or not known:
            return {"unknown": self.found.unknown.get(("pools", pooled), "there is nothing to try it on")}
        there = known * self.expected
        asked = there if kind == "pools" else min(there, _budget(self.recipe.experiment(label)))
        documents = asked * self.found.documents / known
        return {
            "tokens": round(asked),
            "cpu_seconds": spread_of(rate.cpu * documents, UNKNOWN_SPREAD),
            "start_seconds": rate.start,
            "memory": spread_of(float(rate.memory), UNKNOWN_SPREAD),
            "disk": spread_of(rate.disk * documents + rate.disk_start, LEAST_SPREAD),
        }

    # --- trainings

    def _tried(self, label: str) -> Tried | str:
        tried = self.found.tried.get(label, "there is nothing to try it on")
        scale = proxy_scale(self.recipe.experiment(label).proxy)
        seconds = self.recorded.get((_flops_of_token(self.recipe, scale), self._processes(label)), [])
        if len(seconds) < ENOUGH:
            return tried
        token = median(seconds)
        if isinstance(tried, str):
            # Of a scale that is too large to be tried, how long it takes to begin is not known, and is little beside it.
            rate = TrainingRate(token, token, 0.0, 0.0, "", None, 4 * _parameters(self.recipe, scale), len(seconds))
            return Tried(rate, None)
        rate = tried.training
        cpu = token * rate.cpu_token / rate.token if rate.token else token
        return replace(tried, training=replace(rate, token=token, cpu_token=cpu, records=len(seconds)))

    def _processes(self, label: str) -> int:
        return self.recipe.experiment(label).proxy.processes

    def _work(self, kind: str, label: str) -> dict[str, Any]:
        """What is known of a training before anything is measured."""
        if kind != "proxies":
            return {}
        tokens = _trained(self.recipe, label, _budget(self.recipe.experiment(label)))
        return {"tokens": tokens, "flops": _flops(self.recipe, label, tokens), "trainings": 1}

    def _training(self, label: str, tried: Tried) -> dict[str, Any]:
        proxy, known = self.recipe.experiment(label).proxy, self._work("proxies", label)
        spent = self._spent(label, tried.training, [known["tokens"]])
        return {**known, **spent, "disk": spread_of(float(tried.training.bytes * proxy.checkpoints), LEAST_SPREAD)}

    def _spent(self, label: str, rate: TrainingRate, trainings: Sequence[int]) -> dict[str, Any]:
        """Time and price of trainings of so many tokens each."""
        proxy, tokens = self.recipe.experiment(label).proxy, sum(trainings)
        # Side by side they wait for each other's memory; finished ones did.
        spread = LEAST_SPREAD if rate.records else UNKNOWN_SPREAD
        seconds, price = rate.token * tokens, proxy.usd_per_hour
        return {
            "cpu_seconds": spread_of(rate.cpu_token * tokens + rate.start * len(trainings), spread),
            "start_seconds": rate.boot,
            "training_seconds": spread_of(seconds, spread),
            "gpu_seconds": spread_of(seconds * proxy.processes, spread) if rate.device.startswith("cuda") else None,
            "usd": None if price is None else spread_of(seconds / 3600 * price, spread),
            "memory": None if rate.memory is None else spread_of(float(rate.memory), LEAST_SPREAD),
            "records": rate.records,
        }

    # --- evaluations

    def _evaluation(self, label: str, tried: Tried) -> dict[str, Any]:
        if tried.evaluation is None:
            return {"unknown": "a model of this scale is too large to be asked here"}
        items, seconds = tried.evaluation.of([task.label for task in self.recipe.evaluate])
        models = self.recipe.experiment(label).proxy.checkpoints
        return {
            "items": items * models,
            "cpu_seconds": spread_of(seconds * models, UNKNOWN_SPREAD),
            "start_seconds": 0.0,
            "memory": spread_of(float(tried.evaluation.memory), LEAST_SPREAD),
            "disk": spread_of(tried.evaluation.item_bytes * items * models, UNKNOWN_SPREAD),
        }

    # --- searches

    def _search(self, search: Search) -> dict[str, Any]:
        rehearsed, label = self.rehearsal(search), search.experiment
        if isinstance(rehearsed, str):
            return {"unknown": rehearsed}
        trainings = [
            _trained(self.recipe, label, proposal.tokens or search.tokens)
            for proposal in rehearsed.missing
            if proposal.merge is None
        ]
        known = {
            "trainings": len(trainings),
            "there": rehearsed.there,
            "rounds": rehearsed.rounds,
            "tokens": sum(trainings),
            "flops": sum(_flops(self.recipe, label, tokens) for tokens in trainings),
        }
        tried = self._tried(label)
        if isinstance(tried, str):
            return {**known, "unknown": tried}
        spent = self._spent(label, tried.training, trainings)
        asked = _answers(tried.evaluation, [task.label for task in self.recipe.asked_by(search)])
        models = sum(proposal.role in KEPT for proposal in rehearsed.missing) * tried.training.bytes
        count = len(rehearsed.missing)
        disk = count * (TRIAL_BYTES + asked[2]) + models
        cpu = {end: value + asked[1] * count for end, value in spent["cpu_seconds"].items()}
        return {
            **known,
            **spent,
            "items": asked[0] * count,
            "cpu_seconds": cpu,
            "disk": spread_of(disk, UNKNOWN_SPREAD),
        }

    def rehearsal(self, search: Search) -> Rehearsal | str:
        if search.label not in self.rehearsed:
            self.rehearsed[search.label] = self._rehearse(search)
        return self.rehearsed[search.label]

    def _rehearse(self, search: Search) -> Rehearsal | str:
        node = self.workspace.graph[f"searches/{search.label}"]
        upstream = {name: self.states[name].manifest for name in node.upstream if self.states[name].state == "cached"}
        there = {name: manifest for name, manifest in upstream.items() if manifest is not None}
        selection = there.get(f"selection/{search.experiment}") or self._expected_selection(search.experiment)
        if selection is None:
            return "the domains it mixes are not known before documents are selected"
        try:
            problem = problem_of(self.workspace, search, selection)
            if self.again or len(there) < len(node.upstream):
                return rehearse(search, problem)
            digests = {name: manifest.digest for name, manifest in there.items()}
            return rehearse(search, problem, kept_trials(self.workspace, Work(node, node.fingerprint(digests), there)))
        except FactoryError as error:
            return f"it would not run: {str(error)[:200]}"

    def _expected_selection(self, label: str) -> Manifest | None:
        """That of the sample, as large as all documents."""
        sampled = self.found.selections.get(label)
        if sampled is None:
            return None
        notes = {
            name: {domain: round(number * self.expected) for domain, number in sampled.notes[name].items()}
            for name in ("tokens", "documents")
        }
        return replace(sampled, notes={**sampled.notes, **notes})


def recorded(workspace: Workspace) -> dict[tuple[float, int], list[float]]:
    """Seconds of a token in finished trainings of this store, by operations of a token and processes: by shape."""
    found: dict[tuple[float, int], list[float]] = {}
    for run in costs(workspace)["runs"]:
        if run["status"] != "invalid" and run["tokens"] and run["flops"] and run["seconds"]:
            shape = _rounded(run["flops"] / run["tokens"]), run["processes"]
            found.setdefault(shape, []).append(run["seconds"] / run["tokens"])
    return found


def groups(recipe: Recipe, lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each experiment and each search would take in all: its tokens, trainings and evaluations."""
    made = []
    owners = [("experiment", one.label) for one in recipe.experiments] + [
        ("search", one.label) for one in recipe.searches
    ]
    for kind, name in owners:
        own = [line for line in lines if _owner(line) == (kind, name)]
        known = [line for line in own if line["unknown"] is None]
        if not own:
            continue
        made.append(
            {
                "kind": kind,
                "name": name,
                "trainings": sum(line["trainings"] or 0 for line in own),
                "there": sum(line["there"] or 0 for line in own),
                "tokens": sum(line["tokens"] or 0 for line in own if line["kind"] in ("proxies", "searches")),
                "flops": sum(line["flops"] or 0.0 for line in own),
                "items": sum(line["items"] or 0 for line in own),
                **{
                    name: summed(known, name)
                    for name in ("cpu_seconds", "training_seconds", "gpu_seconds", "usd", "disk")
                },
                "unknown": len(own) - len(known),
            }
        )
    return made


def summed(lines: Sequence[Mapping[str, Any]], name: str) -> dict[str, float] | None:
    """The sum of a range; None where no line has one."""
    known = [line[name] for line in lines if line.get(name) is not None]
    return {end: sum(item[end] for item in known) for end in ("value", "low", "high")} if known else None


def spread_of(value: float, spread: float) -> dict[str, float]:
    """A value with its range."""
    spread = max(spread, LEAST_SPREAD)
    return {"value": value, "low": value / (1 + spread), "high": value * (1 + spread)}


def _owner(line: Mapping[str, Any]) -> tuple[str, str]:
    kind, _, label = line["name"].partition("@")[0].partition("/")
    return ("search" if kind == "searches" else "experiment", label) if kind in (*PROOF[:1], *PROOF[2:]) else ("", "")


def _answers(rate: EvaluationRate | None, labels: Sequence[str]) -> tuple[int, float, float]:
    """Items, seconds and bytes of one model's answers; nothing where it was not tried."""
    if rate is None:
        return 0, 0.0, 0.0
    items, seconds = rate.of(labels)
    return items, seconds, items * rate.item_bytes


def _budget(experiment: Experiment) -> int:
    assert experiment.mixture is not None
    return int(experiment.mixture.config.model_dump()["tokens"])


def _trained(recipe: Recipe, label: str, budget: int) -> int:
    """The tokens of whole steps: the last target of the last sequence has to exist."""
    scale = proxy_scale(recipe.experiment(label).proxy)
    return max(0, budget - scale.context) // scale.step_tokens * scale.step_tokens


def _flops(recipe: Recipe, label: str, tokens: int) -> float:
    return _flops_of_token(recipe, proxy_scale(recipe.experiment(label).proxy)) * tokens


def _flops_of_token(recipe: Recipe, scale: Scale) -> float:
    return _rounded(exact_flops(scale, _vocabulary(recipe), 1))


def _parameters(recipe: Recipe, scale: Scale) -> int:
    return scale.parameters(_vocabulary(recipe)).total


def _vocabulary(recipe: Recipe) -> int:
    assert recipe.tokenizer is not None  # what trains has one
    return recipe.tokenizer.vocab_size


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
