"""From a recipe file to a checked Recipe: every problem found is reported at once, before anything runs."""

import os
from collections.abc import Mapping
from typing import Any

from factory.core.errors import RecipeError, suggest
from factory.recipes.checks.checker import LABEL, Checker, kind_of
from factory.recipes.checks.evaluation import check_counts, read_tasks
from factory.recipes.checks.experiments import read_experiments
from factory.recipes.checks.linkers import read_linkers
from factory.recipes.checks.rewriters import read_rewriters
from factory.recipes.checks.scorers import check_training_sources, read_extractors, read_scorers
from factory.recipes.checks.searches import read_searches
from factory.recipes.checks.sources import read_sources
from factory.recipes.checks.training import check_budgets, read_proxy
from factory.recipes.recipe import Recipe, Tokenizer
from factory.recipes.yaml import read_yaml

SECTIONS = (
    "name",
    "store",
    "sources",
    "extract",
    "scorers",
    "linkers",
    "filters",
    "rewrite",
    "tokenizer",
    "selection",
    "mixture",
    "packing",
    "phases",
    "conditioning",
    "proxy",
    "evaluate",
    "searches",
    "experiments",
    "base",
    "seed",
    "max_error_share",
)
MODELLED_SECTIONS = ("mixture", "packing", "phases", "conditioning", "proxy", "evaluate", "searches")
NO_TOKENIZER = "none"


def load_recipe(path: str, *, store: str | None = None) -> Recipe:
    """The recipe in this file; `store` replaces the one it names. Raises RecipeError with all problems."""
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except FileNotFoundError:
        raise RecipeError([f"{path}: no such recipe. 'factory init' writes one."]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError([f"{path}: cannot be read as text: {error}."]) from error
    return check_recipe(read_yaml(text, path), folder=os.path.dirname(os.path.abspath(path)), store=store)


def check_recipe(data: Any, *, folder: str, store: str | None = None) -> Recipe:
    """A Recipe from plain data; `folder` is where its relative paths start."""
    checker = Checker(folder)
    if not isinstance(data, Mapping):
        raise RecipeError(
            [f"a recipe is a map of sections; this is {kind_of(data)}. 'factory init' writes an example."]
        )
    recipe = _recipe(checker, data, store)
    if recipe is None:
        raise RecipeError(checker.problems)
    return recipe


def _recipe(checker: Checker, data: Mapping[str, Any], store: str | None) -> Recipe | None:
    """The recipe; None with the checker's problems. Sections are read in the order in which they build on each other."""
    checker.known_keys("recipe", data, SECTIONS)
    sources = read_sources(checker, data)
    extract = read_extractors(checker, data)
    scorers = read_scorers(checker, data)
    linkers = read_linkers(checker, data, scorers)
    check_training_sources(checker, scorers, linkers, list(checker.section(data, "sources")))
    curates = data.get("tokenizer") == NO_TOKENIZER
    proxy = read_proxy(checker, "proxy", checker.section(data, "proxy"))
    written = data.get("experiments")
    labels = [str(label) for label in written or ("base",)] if isinstance(written or {}, Mapping) else []
    experiments = read_experiments(checker, data, scorers, linkers, proxy, labels, mixes=not curates)
    base = data.get("base", labels[0] if labels else "")
    if labels and base not in labels:
        checker.report(f"base: no experiment is named '{base}'.{suggest(str(base), labels)}")
    rewrite = read_rewriters(checker, data, scorers, linkers)
    tokenizer = None if curates else checker.values(Tokenizer, "tokenizer", checker.section(data, "tokenizer"))
    tasks = read_tasks(checker, data)
    check_counts(checker, tasks, scorers)
    searches = [] if curates else read_searches(checker, data, experiments, labels)
    if not curates:
        check_budgets(checker, data, experiments, searches)
    for section in MODELLED_SECTIONS if curates else ():
        if data.get(section):
            checker.report(
                f"{section}: a recipe with 'tokenizer: {NO_TOKENIZER}' ends with decisions. Remove one of the two sections."
            )
    plain = _plain(checker, data, store)
    checker.once()
    if checker.problems:
        return None
    assert proxy is not None
    return Recipe(
        folder=checker.folder,
        sources=tuple(sources),
        extract=tuple(extract),
        scorers=tuple(scorers),
        linkers=tuple(linkers),
        rewrite=tuple(rewrite),
        tokenizer=tokenizer,
        proxy=proxy,
        evaluate=tuple(tasks),
        experiments=tuple(experiments),
        searches=tuple(searches),
        base=str(base),
        **plain,
    )


def _plain(checker: Checker, data: Mapping[str, Any], store: str | None) -> dict[str, Any]:
    """What a recipe says in one word: its name, seed and bounds, and where its store is."""
    name = data.get("name", "")
    if not isinstance(name, str) or not LABEL.fullmatch(name):
        checker.report(f"name: a recipe is named in small letters, digits and _, not {name!r}.")
    seed = data.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        checker.report(f"seed: a whole number from 0 up is meant (got {seed!r}).")
    share = data.get("max_error_share", 0.05)
    if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 <= share <= 1:
        checker.report(f"max_error_share: a number from 0 to 1 is meant (got {share!r}).")
    place = store or data.get("store", ".factory")
    if not isinstance(place, str) or not place:
        checker.report(f"store: a folder or URL is meant (got {place!r}).")
    elif "://" not in place:
        place = os.path.abspath(place) if store else os.path.join(checker.folder, place)
    return {"name": name, "seed": seed, "max_error_share": share, "store": place}
