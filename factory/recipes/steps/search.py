"""Searches: proxies on mixtures that a searcher proposes, round by round, and what it finds in them.

Trials of all searches of a round share the workers. A trial is kept under what decides it (the pool, its mixture, the scale,
its seed, the tasks), whichever search proposed it: a search that was stopped goes on where it was, one with other settings
takes what is there, and two searches train a mixture that both propose once.

A trial that cannot be trained is told as failed with its reason, and the searcher does without it, as without one whose loss
broke down; it is never trained with another seed instead. Too many of them, and the search fails.
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from factory.core.errors import FactoryError, suggest
from factory.core.fingerprint import fingerprint
from factory.core.manifest import Manifest, Part, dataset_folder
from factory.core.mixture import Budget
from factory.core.search import Domain, Finding, Problem, Proposal, Searcher, Trial
from factory.evaluation.summary import lowered
from factory.execution.tasks import Context, Payload, Task
from factory.mixing.budget import matched_pool
from factory.recipes.budgets import check_proposal
from factory.recipes.recipe import Recipe, Search
from factory.recipes.references import matching_files, open_file, pin_files
from factory.recipes.steps import evaluations, proxies
from factory.recipes.work import Bench, Made, Work
from factory.storage.leases import lease
from factory.storage.parts import find_part, finish_part, read_part, write_file, write_part
from factory.storage.store import Store

TRIAL = "trial.json"
ITEMS = "items"
FINDING = "finding.json"
NOT_MODEL = (TRIAL, ITEMS, proxies.RECORD)
LONG = ("loss_curve", "spec")  # of a record: they are in its own file
MOST_FAILED = 0.2  # share of the trials that may fail
CONTROLS = ("baseline", "base")  # roles of what the other trials are measured against
MOST_REASONS = 3
TRIALS = pa.schema(
    [
        ("trial", pa.string()),
        ("round", pa.int32()),
        ("role", pa.string()),
        ("seed", pa.int32()),
        ("weights", pa.map_(pa.string(), pa.float64())),
        ("metrics", pa.map_(pa.string(), pa.float64())),
        ("objective", pa.float64()),  # mean of the objectives; null for a trial that broke down
        ("valid", pa.bool_()),
        ("reason", pa.string()),
        ("tokens", pa.int64()),
        ("flops", pa.float64()),
    ]
)


@dataclass
class _State:
    """A search under way."""

    work: Work
    search: Search
    searcher: Searcher
    problem: Problem
    pinned: dict[str, str]  # of the files of its tasks
    trials: list[Trial] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)  # of each trial
    parts: dict[str, tuple[Part, ...]] = field(default_factory=dict)  # of each trial, by its name
    asked: list[tuple[Proposal, str]] = field(default_factory=list)  # this round's, with where each is kept
    failed: dict[str, str] = field(default_factory=dict)  # trials that could not be made, and why
    done: bool = False

    @property
    def failures(self) -> str:
        """How many trials failed, and with what."""
        alike: dict[str, list[str]] = {}
        for name, reason in self.failed.items():
            alike.setdefault(reason, []).append(name)
        told = [f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {r}" for r, names in alike.items()]
        return f"{len(self.failed)} of {len(self.trials)} trials failed: {'; '.join(told[:MOST_REASONS])}"


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Searches, side by side: a round of one does not wait for a round of another any longer than for a worker."""
    states = [_begin(bench, work) for work in works]
    number = 0
    while open_states := [state for state in states if not state.done]:
        number += 1
        tasks: dict[str, Task] = {}
        for state in open_states:
            _ask(bench, state, tasks)
        label = f"{', '.join(state.search.label for state in open_states if state.asked)}: round {number}"
        failed: dict[str, FactoryError] = {}
        bench.run_tasks(label, list(tasks.values()), unit="tokens", failed=failed)
        for state in open_states:
            _take(bench, state, number, failed)
    return {state.work.node.name: _made(bench, state) for state in states}


def _begin(bench: Bench, work: Work) -> _State:
    search = bench.recipe.search(work.node.label)
    places = [uri for task in bench.recipe.asked_by(search) for uri in task.config.places.values()]
    pinned = {name: work.node.files[name] for name in pin_files(places, bench.recipe.folder) if name in work.node.files}
    problem = problem_of(bench, search, work.one("selection"))
    return _State(work, search, search.stage.make(search.config), problem, pinned)


def problem_of(bench: Bench, search: Search, selection: Manifest) -> Problem:
    """What is searched: the domains of the experiment's selection, for the budget and the bounds of its mixture."""
    mixture = bench.recipe.experiment(search.experiment).mixture
    assert mixture is not None
    budget, notes = mixture.config, selection.notes
    assert isinstance(budget, Budget)
    check_metrics(bench.recipe, search)
    domains = [
        Domain(name, int(notes["tokens"][name]), int(notes["documents"][name]))
        for name in sorted(notes["tokens"])
        if notes["tokens"][name]
    ]
    if len(domains) < 2:
        raise FactoryError(
            f"searches.{search.label}: '{search.experiment}' has {len(domains)} domain by {', '.join(mixture.by)}, "
            "and a mixture needs two. Choose another column with mixture.by."
        )
    return Problem(
        domains=tuple(domains),
        tokens=budget.tokens,
        max_epochs=budget.bounds({domain.name: domain.tokens for domain in domains}),
        trial_tokens=search.tokens,
        objectives=search.objectives,
        seed=bench.recipe.seed,
    )


def check_metrics(recipe: Recipe, search: Search) -> None:
    """Raise FactoryError where a metric is of a domain that its task does not have: files are read, nothing is trained."""
    from factory.evaluation.domains import task_domains
    from factory.evaluation.evaluate import read_task

    asked = {name: objective for objective in search.objectives for name in [f"objectives: '{objective}'"]}
    for setting in ("general", "special"):  # of a searcher, where it names metrics beside the objectives
        if (metric := getattr(search.config, setting, None)) is not None:
            asked[f"{setting}: '{metric}'"] = metric
    known: dict[str, set[str]] = {}
    for name, metric in asked.items():
        label, slash, domain = metric.partition("/")
        task = next((task for task in recipe.asked_by(search) if task.label == label), None)
        if task is None or not slash:
            continue
        if label not in known:
            files = read_task(task.config, open_file, lambda uri: matching_files(uri, recipe.folder))
            known[label] = task_domains(task.config, files)
        if domain not in known[label]:
            raise FactoryError(
                f"searches.{search.label}.{name}: the items of '{label}' have no domain '{domain}'."
                f"{suggest(domain, sorted(known[label]))} Nothing was trained."
            )


def _ask(bench: Bench, state: _State, tasks: dict[str, Task]) -> None:
    """Put what a search asks next into `tasks`, without what is there already."""
    proposals = state.searcher.ask(state.problem, state.trials)
    known = {trial.proposal.name for trial in state.trials}
    twice = [proposal.name for proposal in proposals if proposal.name in known]
    if twice or len({proposal.name for proposal in proposals}) < len(proposals):
        raise FactoryError(f"searches.{state.search.label}: the searcher proposed '{(twice or ['a trial'])[0]}' twice.")
    proxy = bench.recipe.experiment(state.search.experiment).proxy
    for proposal in proposals:
        check_proposal(proposal, proxy, proposal.tokens or state.problem.trial_tokens)
    state.asked, state.done = [], not proposals
    for proposal in proposals:
        payload = _payload(bench, state, proposal)
        folder = dataset_folder("searches", "trials", payload["identity"], "")
        state.asked.append((proposal, folder))
        if find_trial(bench.store, folder) is None:
            weight = 0 if proposal.merge else payload["train"]["budget"]
            tasks[folder] = Task(folder, f"{__name__}:make", {**payload, "folder": folder}, weight)


def _payload(bench: Bench, state: _State, proposal: Proposal) -> dict[str, Any]:
    """What a trial is made from; `identity` names what decides it."""
    work, spec = state.work, state.work.node.spec
    pool = work.one("pools")
    total = proposal.tokens or state.problem.trial_tokens
    available = {domain.name: domain.tokens for domain in state.problem.domains}
    epochs = {name: share * total / available[name] for name, share in sorted(proposal.weights.items()) if share > 0}
    of = list(proposal.merge.of) if proposal.merge else [proposal.init] if proposal.init else []
    seen = _seen(state, proposal, total)
    models = {name: [part.path for part in state.parts[name] if part.name not in NOT_MODEL] for name in of}
    train = proxies.payload_of(
        bench,
        state.search.experiment,
        pool,
        work.one("models"),
        {**spec["proxy"], "seed": [spec["seed"], proposal.seed], "tokens": total},
        epochs=epochs,
        seen=seen,
    )
    identity = {
        "steps": spec["steps"],
        "pool": pool.digest,
        "tokenizer": work.one("models").digest,
        "proxy": {**spec["proxy"], "tokens": total},
        "seed": [spec["seed"], proposal.seed],
        "epochs": {} if proposal.merge else epochs,
        **({"seen": seen} if seen is not None and not proposal.merge else {}),
        **({"documents": "by seed"} if proposal.seed and not proposal.merge else {}),
        "of": [[part.digest for part in state.parts[name]] for name in of],
        "merge": list(proposal.merge.weights) if proposal.merge else None,
        "online": {
            "method": proposal.online.method,
            "settings": dict(proposal.online.settings),
            "searcher": [spec["stage"], spec["version"]],  # whose version is raised where the method changes
        }
        if proposal.online
        else None,
        "tasks": spec["tasks"],
        "files": dict(work.node.files),
        # A trial whose model was not kept cannot stand in for one that others go on from.
        "keep": proposal.role in ("expert", "base"),
    }
    return {
        "store": bench.store.url,
        "identity": fingerprint(identity),
        "train": train,
        "models": list(models.values()),
        "lacks": next((name for name, files in models.items() if not files), None),
        "merge": identity["merge"],
        "online": {"method": proposal.online.method, "settings": dict(proposal.online.settings)}
        if proposal.online
        else None,
        "keep": identity["keep"],
        "evaluate": {
            "tasks": evaluations.task_settings(bench.recipe.asked_by(state.search)),
            "inputs": bench.recipe.folder,
            "pinned": state.pinned,
            "start": (train["policy"]["bos"] and "bos") or "eos",
        },
    }


def _seen(state: _State, proposal: Proposal, total: int) -> float | None:
    """The share of each domain a trial of so many tokens may see; None: all of it."""
    search = state.search
    if not search.match_repetition:
        return None
    if proposal.online is not None:
        raise FactoryError(
            f"searches.{search.label}.match_repetition: shares that change while '{proposal.name}' trains have no number of "
            "repetitions to match. Leave it out."
        )
    try:
        return matched_pool(state.problem.tokens, total)
    except FactoryError as error:
        raise FactoryError(f"searches.{search.label}.match_repetition: '{proposal.name}': {error}") from error


def make(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: one trial, trained (or merged) and evaluated; its record is written last."""
    store, folder = Store(payload["store"]), payload["folder"]
    with lease(store, f"searches-trials-{payload['identity']}"):  # another run may search with the same trial
        part = find_trial(store, folder) or _make(store, payload, context)
    return {"part": part.to_json()}


def _make(store: Store, payload: Payload, context: Context) -> Part:
    from factory.training.proxy import reproducible_part

    folder = payload["folder"]
    trained = _train(payload, context)
    record, parts = trained["record"], [Part.from_json(part) for part in trained["parts"]]
    models = [part for part in parts if part.name != proxies.RECORD]
    metrics: dict[str, float] = {}
    files = [part for part in parts if part.name == proxies.RECORD]
    if record["valid"]:
        asked = {**payload["evaluate"], "store": payload["store"], "folder": folder, "name": ITEMS}
        answered = evaluations.make({**asked, "checkpoint": [part.path for part in models]}, context)
        files.append(Part.from_json(answered["part"]))
        metrics = lowered(read_part(store, files[-1]))
    if payload["keep"]:
        files += models
    else:
        # A swarm would fill the store with models nobody asks for: what they scored is kept, and how to make them again.
        for part in models:
            store.delete(part.path)
    lost = [name for name, value in metrics.items() if not math.isfinite(value)]
    trial = {
        "metrics": {} if lost else metrics,
        "valid": record["valid"] and not lost,
        "reason": record["reason"] or (f"{lost[0]} is not a number" if lost else None),
        "record": {name: value for name, value in reproducible_part(record).items() if name not in LONG},
    }
    with store.scratch() as scratch:
        local = os.path.join(scratch, TRIAL)
        with open(local, "w", encoding="utf-8") as stream:
            json.dump(trial, stream, sort_keys=True)
        # What was measured differs from run to run: it is told, and is in no digest.
        notes = {"files": [part.to_json() for part in files], "seconds": record.get("seconds", 0.0)}
        part = write_file(store, folder, TRIAL, local, notes)
    finish_part(store, folder, part)
    proxies.remove_work(store, folder)
    return part


def _train(payload: Payload, context: Context) -> dict[str, Any]:
    """The model of a trial as parts, and its record."""
    train = {**payload["train"], "folder": payload["folder"]}
    if payload["lacks"] is not None:
        return {
            "parts": [],
            "record": {"valid": False, "reason": f"there is no model of {payload['lacks']} to make it from"},
        }
    if payload["merge"] is not None:
        return _merge(payload)
    if payload["models"]:
        train["init"] = payload["models"][0]
    if payload["online"] is not None:
        return proxies.make_online(train, payload["online"], context)
    return proxies.make(train, context)


def _merge(payload: Payload) -> dict[str, Any]:
    """The average of other trials' models; no training, and so no tokens."""
    from factory.training.merging import merge_checkpoints

    store = Store(payload["store"])
    with ExitStack() as stack:
        folders = [os.path.dirname(stack.enter_context(store.as_local(*paths))[0]) for paths in payload["models"]]
        out = os.path.join(stack.enter_context(store.scratch()), "model")
        merged = merge_checkpoints(folders, out, weights=payload["merge"])
        names = sorted(os.listdir(out))
        parts = [write_file(store, payload["folder"], name, os.path.join(out, name)) for name in names]
    record = {"reason": None, "tokens_seen": 0, "flops": 0.0, "seconds": 0.0, **merged}
    return {"parts": [part.to_json() for part in parts], "record": record}


def _take(bench: Bench, state: _State, number: int, failed: Mapping[str, FactoryError]) -> None:
    """Put this round's trials beside those before; raises FactoryError where too many of them failed."""
    for proposal, folder in state.asked:
        if folder in failed:
            place = f"experiments.{state.search.experiment}: "  # where a training says it stands
            state.failed[proposal.name] = reason = str(failed[folder]).removeprefix(place)
            state.trials.append(Trial(proposal, {}, False, reason))
            state.rounds.append(number)
            state.parts[proposal.name] = ()
            continue
        part = find_trial(bench.store, folder)
        if part is None:
            raise FactoryError(f"searches.{state.search.label}: trial {proposal.name} left no record. Run it again.")
        state.trials.append(_read(bench, state, proposal, part))
        state.rounds.append(number)
    controls = [trial.proposal.name for trial in state.trials if trial.proposal.role in CONTROLS]
    if controls and not set(controls) - set(state.failed):
        hint = "Nothing is left to measure the others against."
    elif len(state.failed) > MOST_FAILED * len(state.trials):
        hint = f"A search does without at most {MOST_FAILED:.0%} of its trials."
    else:
        return
    raise FactoryError(
        f"searches.{state.search.label}: {state.failures.rstrip('.')}. {hint} Correct their proxies and run again: "
        "finished trials are kept."
    )


def _read(bench: Bench, state: _State, proposal: Proposal, part: Part) -> Trial:
    """A trial that is there; what goes on from it finds its files."""
    trial = json.loads(bench.store.read(part.path))
    state.parts[proposal.name] = (part, *(Part.from_json(item) for item in part.notes["files"]))
    return Trial(proposal, trial["metrics"], trial["valid"], trial["reason"], trial["record"])


def kept_trials(bench: Bench, work: Work) -> Callable[[Proposal], Trial | None]:
    """Of a search whose inputs are there: the trial of a proposal, or None where it has not been made."""
    state = _begin(bench, work)

    def kept(proposal: Proposal) -> Trial | None:
        of = proposal.merge.of if proposal.merge else (proposal.init,) if proposal.init else ()
        if any(name not in state.parts for name in of):
            return None
        folder = dataset_folder("searches", "trials", _payload(bench, state, proposal)["identity"], "")
        part = find_trial(bench.store, folder)
        return None if part is None else _read(bench, state, proposal, part)

    return kept


def find_trial(store: Store, folder: str) -> Part | None:
    """The record of a finished trial, or None where it was not made, or a file of it is gone."""
    part = find_part(store, folder, TRIAL)
    whole = part is not None and all(store.size(item["path"]) == item["bytes"] for item in part.notes["files"])
    return part if whole else None


def _made(bench: Bench, state: _State) -> Made:
    finding = state.searcher.finish(state.problem, state.trials)
    _check(state, finding)
    if state.failed:
        finding = replace(finding, warnings=(*finding.warnings, f"{state.failures.rstrip('.')}."))
        bench.progress.note(f"searches.{state.search.label}: {state.failures}")
    rows = [_row(state, trial, number) for trial, number in zip(state.trials, state.rounds, strict=True)]
    batch = pa.RecordBatch.from_pylist(rows, schema=TRIALS)
    name = fingerprint({"trials": sorted(part.digest for parts in state.parts.values() for part in parts)})
    table = write_part(bench.store, state.work.folder, f"trials-{name}", TRIALS, [batch], ids="")
    with bench.store.scratch() as scratch:
        local = os.path.join(scratch, FINDING)
        with open(local, "w", encoding="utf-8") as stream:
            json.dump(finding.to_json(), stream, sort_keys=True)
        found = write_file(bench.store, f"{state.work.folder}/{name}", FINDING, local)
    # Mixtures that are equal are one trial under several names: its files and what it took are there once.
    parts = {part.path: part for name in state.parts for part in state.parts[name]}
    made = [trial for trial in state.trials if trial.proposal.name not in state.failed]
    records = {state.parts[trial.proposal.name][0].path: trial.record for trial in made}
    notes = {
        "finding": finding.to_json(),
        "objectives": list(state.problem.objectives),
        "natural": state.problem.natural,
        "caps": state.problem.caps,
        "trials": len(state.trials),
        "failed": sum(not trial.valid for trial in state.trials),
        "rounds": max(state.rounds, default=0),
        "tokens": sum(record.get("tokens_seen", 0) for record in records.values()),
        "flops": sum(record.get("flops", 0.0) for record in records.values()),
        "seconds": sum(parts[path].notes["seconds"] for path in records),
    }
    return Made((table, found, *parts.values()), notes=notes)


def _check(state: _State, finding: Finding) -> None:
    """A finding is shares of this search's domains; one that is not is a mistake of the searcher, not of the recipe."""
    for name, weights in {"recommended": finding.weights, **finding.candidates}.items():
        total = math.fsum(weights.values())
        if not abs(total - 1) <= 1e-6 or set(weights) - set(state.problem.names) or min(weights.values()) < 0:
            raise FactoryError(f"searches.{state.search.label}: '{name}' is no mixture (shares sum to {total:.7g}).")


def objective(problem: Problem, trial: Trial) -> float | None:
    """The mean of the objectives; None for a trial that broke down or lacks one."""
    values = [trial.metrics.get(name) for name in problem.objectives]
    known = [value for value in values if value is not None]
    return sum(known) / len(values) if trial.valid and len(known) == len(values) else None


def _row(state: _State, trial: Trial, number: int) -> dict[str, Any]:
    proposal = trial.proposal
    return {
        "trial": proposal.name,
        "round": number,
        "role": proposal.role,
        "seed": proposal.seed,
        "weights": sorted(proposal.weights.items()),
        "metrics": sorted(trial.metrics.items()),
        "objective": objective(state.problem, trial),
        "valid": trial.valid,
        "reason": trial.reason,
        "tokens": trial.record.get("tokens_seen"),
        "flops": trial.record.get("flops"),
    }


def read_trials(store: Store, manifest: Manifest) -> list[dict[str, Any]]:
    """The trials of a finished search, in the order they were proposed."""
    table = next(part for part in manifest.parts if part.name.startswith("trials-"))
    rows = read_part(store, table).to_pylist()
    return [{**row, "weights": dict(row["weights"]), "metrics": dict(row["metrics"])} for row in rows]
