"""What a search found, as plain data: the mixtures it trained, the one it recommends beside what there is, what it would ask."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from factory.core.errors import InputError, suggest
from factory.core.manifest import Manifest
from factory.recipes.lookup import Current
from factory.recipes.recipe import Recipe, Search
from factory.recipes.scale import proxy_scale
from factory.recipes.steps.search import problem_of, read_trials
from factory.recipes.workspace import Workspace
from factory.training.flops import exact_flops

APART = ("merge", "expert", "base", "online")  # roles of trials that are no plain training on their shares
CONFIRM = "confirm"
DIGITS = 6  # by which two mixtures are one


def searches(
    workspace: Workspace, labels: Sequence[str] = (), *, best: int = 10, current: Current | None = None
) -> list[dict[str, Any]]:
    """The searches of these labels (all without), as they are found now; those never made say so."""
    chosen = [_find(workspace.recipe, label) for label in labels] or list(workspace.recipe.searches)
    current = current or Current(workspace)
    made = []
    for search in chosen:
        manifest = current.find("searches", search.label)
        made.append(_described(workspace, search, manifest, best) if manifest else {**_asked(search), "made": False})
    return made


def first_round(workspace: Workspace, label: str) -> dict[str, Any]:
    """What a search would train first, and what that costs; raises FactoryError where its pool is not selected yet."""
    search = _find(workspace.recipe, label)
    selection = workspace.need("selection", search.experiment)
    problem = problem_of(workspace, search, selection)
    proposals = search.stage.make(search.config).ask(problem, [])
    scale = proxy_scale(workspace.recipe.experiment(search.experiment).proxy)
    assert workspace.recipe.tokenizer is not None  # searches are of recipes that train
    tokens = [proposal.tokens or problem.trial_tokens for proposal in proposals if proposal.merge is None]
    flops = sum(exact_flops(scale, workspace.recipe.tokenizer.vocab_size, number) for number in tokens)
    return {
        **_asked(search),
        "domains": [
            {
                "domain": domain.name,
                "tokens": domain.tokens,
                "documents": domain.documents,
                "natural": problem.natural[domain.name],
                "cap": problem.caps[domain.name],
            }
            for domain in problem.domains
        ],
        "scale": scale.name,
        "proposals": [proposal.to_json() for proposal in proposals],
        "tokens": sum(tokens),
        "flops": flops,
    }


def _find(recipe: Recipe, label: str) -> Search:
    known = [search.label for search in recipe.searches]
    if label not in known:
        hint = suggest(label, known) if known else " The recipe has no searches: docs/search.md shows one."
        raise InputError(f"No search is named '{label}'.{hint}")
    return recipe.search(label)


def _asked(search: Search) -> dict[str, Any]:
    return {
        "search": search.label,
        "method": search.stage.name,
        "experiment": search.experiment,
        "objectives": list(search.objectives),
        "trial_tokens": search.tokens,
    }


def _described(workspace: Workspace, search: Search, manifest: Manifest, best: int) -> dict[str, Any]:
    notes, finding = manifest.notes, manifest.notes["finding"]
    trials = read_trials(workspace.store, manifest)
    domains = [
        {
            "domain": name,
            "natural": share,
            "cap": notes["caps"][name],
            "recommended": finding["weights"].get(name, 0.0),
            "interval": finding["intervals"].get(name),
        }
        for name, share in notes["natural"].items()
    ]
    return {
        **_asked(search),
        "made": True,
        **{name: notes[name] for name in ("trials", "failed", "rounds", "tokens", "flops", "seconds")},
        "domains": domains,
        "candidates": finding["candidates"],
        "predicted": finding["predicted"],
        "effects": finding["effects"],
        "notes": finding["notes"],
        "warnings": list(finding["warnings"]),
        "best": mixtures(trials)[:best],
        "objectives_by_trial": [
            {"round": trial["round"], "role": trial["role"], "objective": trial["objective"]} for trial in trials
        ],
    }


def mixtures(trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The mixtures that were trained, best first: the mean of their objectives, its standard deviation and number of seeds.

    Where fresh trainings confirm a mixture, they alone count (`fresh`): the one by which it was picked would flatter it. A
    seed counts once, and trainings of another kind (averages, experts, shares that change) or budget are apart.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for trial in trials:
        kind = trial["role"] if trial["role"] in APART else ""
        shares = tuple(sorted((name, round(share, DIGITS)) for name, share in trial["weights"].items() if share > 0))
        own = trial["trial"] if kind else ""  # what it is made from is not in its shares
        groups.setdefault((kind, own, trial["tokens"], shares), []).append(trial)
    found = [_mixture(own) for own in groups.values()]
    return sorted((one for one in found if one["objective"] is not None), key=lambda one: one["objective"])


def _mixture(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    measured = [trial for trial in trials if trial["objective"] is not None]
    fresh = [trial for trial in measured if trial["role"] == CONFIRM]
    by_seed = {trial["seed"]: trial["objective"] for trial in fresh or measured}
    values = list(by_seed.values())
    first = [trial for trial in trials if trial["role"] != CONFIRM] or list(trials)
    return {
        "mixture": ", ".join(dict.fromkeys(_name(trial) if len(trials) > 1 else trial["trial"] for trial in first)),
        "role": first[0]["role"],
        "round": first[0]["round"],
        "weights": trials[0]["weights"],
        "objective": fmean(values) if values else None,
        "deviation": stdev(values) if len(values) > 1 else None,
        "seeds": len(values),
        "fresh": bool(fresh),
        "failed": sum(not trial["valid"] for trial in trials),
        "trials": [trial["trial"] for trial in trials],
    }


def _name(trial: Mapping[str, Any]) -> str:
    """What a trial has in common with those of other seeds: natural of natural-0, predicted of confirm-predicted-1."""
    return str(trial["trial"]).removesuffix(f"-{trial['seed']}").removeprefix(f"{CONFIRM}-")
