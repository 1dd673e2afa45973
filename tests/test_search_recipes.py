"""Recipes that train, end to end: what is refused before a run, and what is another result because a file is another."""

import copy
import json
import os
import shutil

import pytest
from tiny_project import write_project

from factory.core.errors import RecipeError
from factory.execution.local import LocalExecutor
from factory.recipes.load import check_recipe, load_recipe
from factory.recipes.recipe import Proxy
from factory.recipes.scale import proxy_scale
from factory.recipes.steps import proxies
from factory.recipes.workspace import Workspace
from factory.storage.parts import read_part

RECIPE = {
    "name": "checked",
    "sources": {"web": {"use": "jsonl", "uri": "*.jsonl", "snapshot": "one"}},
    "scorers": {"words": {"use": "word_statistics", "reading": "datatrove"}},
    "mixture": {"use": "natural", "tokens": 20_000, "by": "host"},
    "evaluate": {"held": {"use": "bits_per_byte", "uri": "held/*.jsonl"}},
    "experiments": {"full": {}},
}
GRID = {"use": "fixed", "mixtures": {"a": {"x": 1.0}}}


def problems(**sections):
    with pytest.raises(RecipeError) as raised:
        check_recipe({**copy.deepcopy(RECIPE), **sections}, folder=".")
    return "\n".join(raised.value.problems)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"searches": {"r": {**GRID, "objectives": []}}}, "objectives: at least one task is meant. Known: held."),
        ({"searches": {"r": {**GRID, "objectives": ["held", "held"]}}}, "'held' stands there twice"),
        ({"searches": {"r": {**GRID, "objectives": ["held/"]}}}, "'held/' is no task, nor a task's domain"),
        (
            {"searches": {"r": GRID}, "mixture": {**RECIPE["mixture"], "best_first": "words_words"}},
            "Search an experiment without it",
        ),
        ({"searches": {"r": {"use": "cmr", "domain": "x", "start": {"held": 3.0}}}}, "Name it in 'proxy.init'"),
        ({"searches": {"r": {"use": "olmix", "solved": {"a": float("nan")}}}}, "a: nan"),
        ({"searches": {"r": {"use": "skill_it", "graph": [[1.0, float("nan")]]}}}, "finite number"),
        ({"mixture": {**RECIPE["mixture"], "by": ["host", "host"]}}, "a column stands there twice"),
        ({"phases": [{"share": 1.0, "mixture": {"tokens": 5}}]}, "its share of the experiment's tokens (20,000)"),
        ({"phases": [{"share": 1.0, "conditioned": True}]}, "Add a section 'conditioning'"),
        ({"experiments": {"full": {"proxy": "nano"}}}, "experiments.full.proxy: a map is meant, this is text"),
        (
            {"mixture": {**RECIPE["mixture"], "tokens": 10_879}},
            "mixture.tokens: 10,879 tokens are 20 steps at scale nano, which warms up for 20. "
            "Ask for at least 10,880 tokens, or take a smaller scale.",
        ),
        (
            {"proxy": {"overrides": {"warmup_steps": 40}}},
            "mixture.tokens: 20,000 tokens are 38 steps at scale nano, which warms up for 40",
        ),
        ({"proxy": {"overrides": {"schedule": "cosin"}}}, "schedule 'cosin' is not one of cosine, linear"),
        ({"searches": {"r": {**GRID, "tokens": 5_000}}}, "searches.r.tokens: 5,000 tokens are 9 steps at scale nano"),
        (
            {"searches": {"r": {"use": "cmr", "domain": "x", "tokens": 20_000, "base_tokens": 600}}},
            "searches.r.base_tokens: 600 tokens are 0 steps",
        ),
        ({"searches": {"r": {"use": "cmr", "domain": "x"}}}, "searches.r.budgets: 5,000 tokens are 9 steps"),
        (
            {"phases": [{"name": "main", "share": 0.99}, {"name": "end", "share": 0.01}]},
            "experiments.full.phases: 'end' is 1.00% of 38 steps, less than one",
        ),
        ({"searches": {"r": {**GRID, "match_repetition": "yes"}}}, "match_repetition: true or false is meant"),
        (
            {"searches": {"r": {**GRID, "match_repetition": True, "tokens": 30_000}}},
            "a trial of 30,000 tokens is longer than the target of 20,000",
        ),
        ({"proxy": {"init": ""}}, "proxy.init: String should have at least 1 character"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_runs(sections, said):
    assert said in problems(**sections)


def test_the_least_budget_that_is_named_is_enough_and_recipes_without_trainings_may_have_less():
    enough = check_recipe({**copy.deepcopy(RECIPE), "mixture": {**RECIPE["mixture"], "tokens": 10_880}}, folder=".")
    assert enough.experiments[0].mixture.config.tokens == 10_880
    few = {**copy.deepcopy(RECIPE), "mixture": {**RECIPE["mixture"], "tokens": 100}}
    del few["evaluate"]
    assert check_recipe(few, folder=".").experiments[0].mixture.config.tokens == 100


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"width": "wide"}, "width: a number is meant"),
        ({"peak_lr": float("nan")}, "peak_lr: a finite number"),
        ({"decay": 3}, "decay: a text is meant"),
    ],
)
def test_changes_of_a_scale_have_its_types(overrides, said):
    with pytest.raises(RecipeError, match=said):
        proxy_scale(Proxy(overrides=overrides))


@pytest.fixture
def project(tmp_path):
    """A project that trains a minimal proxy; `run(init)` makes it and returns the proxy and its answers."""
    path = write_project(tmp_path)
    text = path.read_text()
    (tmp_path / "held").mkdir()

    def run(init=""):
        path.write_text(
            text[: text.index("experiments:")]
            + "experiments: {raw: {filters: {}}}\n"
            + "evaluate: {held: {use: bits_per_byte, uri: held/*.jsonl}}\n"
            + f"proxy: {{scale: pico, seeds: 1, {init} overrides: {{width: 16, hidden: 32, layers: 1, heads: 2, kv_heads: 1, "
            + "head_width: 8, context: 32, batch: 4, warmup_steps: 2}}\n"
        )
        with Workspace(load_recipe(str(path)), LocalExecutor(1)) as workspace:
            workspace.run(["evaluations"])
            proxy = workspace.need("proxies", "raw", "pico-0")
            answers = read_part(workspace.store, workspace.need("evaluations", "raw", "pico-0").parts[0])
            files = [os.path.join(workspace.store.root, part.path) for part in proxy.parts]
        return proxy, answers, [file for file in files if not file.endswith(proxies.RECORD)]

    return tmp_path, run


def ask(folder, count):
    rows = [{"id": str(number), "text": "of the people and their law", "domain": "x"} for number in range(count)]
    (folder / "held/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_other_questions_and_another_checkpoint_are_another_result(project):
    folder, run = project
    ask(folder, 3)
    first, answers, model = run()
    assert answers.num_rows == 3
    ask(folder, 5)
    same, answers, _ = run()
    assert (same.digest, answers.num_rows) == (first.digest, 5)  # the model stays, the answers do not
    (folder / "start").mkdir()
    trained = []
    for _ in range(2):
        for file in model:
            shutil.copy(file, folder / "start")
        proxy, _, model = run("init: start,")
        trained.append(proxy)
    assert len({first.digest, *(proxy.digest for proxy in trained)}) == 3
    assert trained[0].fingerprint != trained[1].fingerprint


@pytest.mark.parametrize(
    ("method", "trial", "expected"),
    [
        ("doremi", None, (None, "given")),
        ("doremi", ["model"], ("trial", "given")),
        ("aioli", None, (None, "given")),
        ("aioli", ["model"], (None, "trial")),
    ],
)
def test_a_reference_is_a_trial_and_training_goes_on_from_what_trials_go_on_from(method, trial, expected):
    payload = {"init": trial, "init_folder": "given"}
    assert proxies.reference_and_start(method, payload, "trial" if trial else "given") == expected
