"""Models kept on the way of a training, what they answer, and what their curves say of tasks, decisions and larger models."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from factory.core.errors import FactoryError, InputError
from factory.evaluation.decision_accuracy import decisions_by_compute, equal_compute
from factory.evaluation.predictions import predictions
from factory.evaluation.scaling import fit_law
from factory.evaluation.scores import Score
from factory.training.proxy import reproducible_part
from factory.training.records import kept_steps
from tests.training_runs import SMALL, prepare, run

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("w8"))


@pytest.fixture(scope="module")
def kept(world, tmp_path_factory):
    """A run of 20 steps that keeps four models: its record and its folder."""
    out = tmp_path_factory.mktemp("kept")
    return run(world, out, checkpoints=4), out


def weights(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for place in ("kept", "model")
        for path in sorted((folder / place).rglob("*"))
        if path.is_file()
    }


# --- models that are kept


def test_kept_steps_are_evenly_spaced_different_and_end_with_the_last():
    for steps in (1, 7, 20, 123):
        for count in range(1, steps + 1):
            found = kept_steps(steps, count)
            assert found[-1] == steps
            assert len(set(found)) == count
            assert max(np.diff([0, *found])) - min(np.diff([0, *found])) <= 1
    with pytest.raises(FactoryError, match="Ask for 1 to 5"):
        kept_steps(5, 6)


def test_a_run_that_keeps_models_ends_with_the_bits_of_one_that_does_not(world, tmp_path, kept):
    plain = run(world, tmp_path / "plain")
    assert "checkpoints" not in plain["spec"]
    assert "kept_after" not in plain
    assert kept[0]["model_digest"] == plain["model_digest"]
    assert (kept[1] / "model" / "model.safetensors").read_bytes() == (
        tmp_path / "plain" / "model" / "model.safetensors"
    ).read_bytes()


def test_models_on_the_way_survive_a_kill_and_the_loss_of_one_of_them(world, tmp_path):
    scale = {"schedule": "linear", "ema": 0.9}
    changed = replace(SMALL, **scale)
    undisturbed = run(world, tmp_path / "undisturbed", scale=changed, checkpoints=4)
    asked = {"folder": str(world), "out": str(tmp_path / "run"), "scale": scale, "checkpoints": 4}
    asked |= {"kill": 13, "machine": {"checkpoint_every": 6}}
    command = [sys.executable, "-m", "tests.training_runs", json.dumps(asked)]
    environment = {**os.environ, "PYTHONPATH": ROOT}
    assert subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == -9
    # What the checkpoint after step 12 comes after is gone: from the one after step 6 on it is made again.
    (tmp_path / "run" / "kept" / "step-0000000010" / "model.safetensors").unlink()
    seen = []
    resumed = run(world, tmp_path / "run", scale=changed, checkpoints=4, report=seen.append)
    assert next(told for told in seen if told["event"] == "resumed")["step"] == 6
    assert reproducible_part(resumed) == reproducible_part(undisturbed)
    assert weights(tmp_path / "run") == weights(tmp_path / "undisturbed")


def test_a_kept_model_is_the_one_of_its_step_and_a_stopped_run_keeps_it(world, tmp_path, kept):
    class Stopped(Exception):
        pass

    def stop(message):
        if message.get("step") == 13:
            raise Stopped

    with pytest.raises(Stopped):
        run(world, tmp_path / "run", checkpoints=4, machine={"checkpoint_every": 5}, report=stop)
    model, stood = (
        tmp_path / "run" / place / "step-0000000010" / "model.safetensors" for place in ("kept", "checkpoints")
    )
    assert model.read_bytes() == stood.read_bytes()
    run(world, tmp_path / "run", checkpoints=4)
    assert weights(tmp_path / "run") == weights(kept[1])


def test_what_is_kept_of_an_average_of_the_end_alone_is_refused(world, tmp_path):
    with pytest.raises(FactoryError, match=r"overrides: \{ema: 0\.99\}"):
        run(world, tmp_path / "run", scale=replace(SMALL, schedule="linear"), checkpoints=4, average=3)


# --- what curves say


SIZES = {"s": 1e6, "m": 4e6, "l": 1.6e7, "target": 6.4e7}


def loss_of(parameters, tokens):
    return 0.6 + 30 / parameters**0.3 + 200 / tokens**0.33


def along(noise, steps, *, tokens=lambda n, seed: 20 * n, seeds=3, accuracy=False, experiment="a"):
    """Scores of three small scales and a target, all seeds, of models kept after each share of the training."""
    random = np.random.default_rng(0)
    found = []
    for scale, n in SIZES.items():
        for seed in range(seeds):
            for share in range(1, steps + 1):
                d = tokens(n, seed) * share / steps
                loss = loss_of(n, d) * float(np.exp(noise * random.normal()))
                value = 0.25 + 0.5 / (1 + np.exp(4 * (loss - 1.35))) if accuracy else loss
                size = {"parameters": n, "tokens": d, "flops": 6 * n * d, "loss": loss if accuracy else None}
                base = 0.25 if accuracy else 8.0
                found.append(Score("task", experiment, scale, seed, d, float(value), accuracy, base, **size))
    return found


def test_a_law_of_parameters_and_tokens_is_fitted_where_scales_and_steps_give_points_enough():
    cases = {
        "ends": along(0.002, 1, tokens=lambda n, seed: 20 * n * (2 if n > 6e7 else seed + 1)),
        "steps": along(0.002, 6, tokens=lambda n, seed: 2e9),  # the ends have read equally much
    }
    for points, scores in cases.items():
        (found,) = predictions(scores, "target")
        one = found.experiments["a"]
        assert (one.law, one.points, one.fit.runs, one.fit.alarm) == ("N,D", points, 9, False)
        assert abs(one.error) < 0.01
        assert one.interval.low <= one.predicted <= one.interval.high
    few = along(0.002, 1, tokens=lambda n, seed: 2e9)
    assert predictions(few, "target") == [], "three sizes are no law of compute"


def test_accuracy_is_predicted_by_the_loss_of_the_right_answers_and_says_where_that_is_a_guess():
    (found,) = predictions(along(0.002, 7, accuracy=True), "target")
    one = found.experiments["a"]
    assert one.predicted == pytest.approx(one.measured, abs=0.02)
    assert one.interval.low <= one.predicted <= one.interval.high
    assert one.step2.beyond, "the target's loss is below all that were seen"
    assert one.step2.loss == pytest.approx(one.step2.loss_measured, rel=0.01)
    assert predictions([replace(score, loss=None) for score in along(0.002, 7, accuracy=True)], "target") == []


def test_steps_of_a_run_are_drawn_together():
    """Runs that are each off as a whole: taken for independent, their steps would make the interval too small."""
    random = np.random.default_rng(0)
    widths = []
    for _ in range(2):
        points, losses, runs = [], [], []
        for number, n in enumerate(np.repeat([1e6, 4e6, 1.6e7], 4)):
            off = float(np.exp(0.01 * random.normal()))
            for share in (0.25, 0.5, 0.75, 1.0):
                points.append((n, 20 * n * share))
                losses.append(loss_of(*points[-1]) * off)
                runs.append(number)
        at = np.array([[6.4e7, 1.28e9]])
        made = [
            fit_law(np.array(points), np.array(losses), runs=of, resamples=40).interval(at)[0] for of in (runs, None)
        ]
        widths.append([one.high - one.low for one in made])
    together, apart = np.mean(widths, axis=0)
    assert together > 1.3 * apart


def decided(spread, noise, *, seeds=3, recipes=12, own=0.0, worlds=40):
    """The mean share of right decisions on the way and at the end; `own` is what a seed's steps have in common."""
    random, found = np.random.default_rng(1), []
    for _ in range(worlds):
        true, scores = spread * random.normal(size=recipes), []
        for recipe in range(recipes):
            for seed in range(seeds):
                shared = own * random.normal()
                for step in (1.0, 2.0):
                    value = float(true[recipe] + shared + noise * random.normal())
                    scores.append(Score("t", f"r{recipe}", "x", seed, step, value, True, tokens=step, flops=step))
        found.append([one.accuracy for one in decisions_by_compute(scores, "x")])
    return np.mean(found, axis=0)


def test_no_model_is_asked_about_itself():
    assert decided(0.0, 0.1, own=1.0) == pytest.approx([0.5, 0.5], abs=0.03), "recipes alike, and steps of a seed are"
    assert decided(1.0, 0.0, worlds=5).tolist() == [1.0, 1.0]
    # One seed against the mean of two others: the angle between both, with noise 1 and 1/2 in variance.
    expected = 1 - np.arccos(1 / np.sqrt(2 * 1.5)) / np.pi
    assert decided(1.0, 1.0) == pytest.approx([expected, expected], abs=0.03)


def test_a_finished_small_model_stands_beside_the_target_after_as_much_compute():
    scores = []
    for recipe in range(3):
        for seed in range(2):
            scores.append(Score("t", f"r{recipe}", "small", seed, 9.0, -recipe, True, tokens=9.0, flops=25.0))
            for step in (1.0, 4.0):
                value = float(recipe if step == 4.0 else (recipe - 1) ** 2)
                scores.append(Score("t", f"r{recipe}", "big", seed, step, value, True, tokens=step, flops=25 * step))
    found = decisions_by_compute(scores, "big")
    assert [(one.scale, one.finished, one.compute) for one in found] == [
        ("big", False, 0.25),
        ("small", True, 0.25),
        ("big", True, 1.0),
    ]
    (one,) = equal_compute(found, "big")
    assert (one.scale, one.finished, one.on_the_way) == ("small", 0.0, pytest.approx(found[0].accuracy))
    alone = [replace(score, seed=0) for score in scores if score.seed == 0]
    assert decisions_by_compute(alone, "big") == [], "a target of one seed has no others"


# --- a recipe


def test_curves_of_a_recipe_leave_its_final_scores_as_they_were(tmp_path):
    from judged_project import RECIPE, write_project

    from factory.execution.local import LocalExecutor
    from factory.recipes.evidence import runs_of
    from factory.recipes.load import load_recipe
    from factory.recipes.lookup import Current
    from factory.recipes.report import gather
    from factory.recipes.signals import COLUMNS, learning_curves, signal, to_csv, transfers
    from factory.recipes.steps.evaluations import final_answers, kept_answers
    from factory.recipes.workspace import Workspace
    from factory.reports.page import render

    path = write_project(tmp_path, RECIPE.replace("seeds: 1", "seeds: 2"))
    told = {}
    for changed in ("", "\n  checkpoints: 3"):
        (tmp_path / "recipe.yaml").write_text(RECIPE.replace("seeds: 1", f"seeds: 2{changed}"))
        with Workspace(load_recipe(path), LocalExecutor(1)) as workspace:
            outcomes = workspace.run()
            current = Current(workspace)
            board = workspace.need("leaderboard").notes["board"]
            told[changed] = (
                {run.name: run.items for run in runs_of(workspace, current)},
                [{**row, "facts": None} for row in board["rows"]],
                {
                    (proxy.name, part.name): part.digest
                    for proxy in current.of("proxies")
                    for part in proxy.parts
                    if part.name == "model.safetensors"
                },
            )
            if not changed:
                assert {
                    part.name for proxy in current.of("proxies") for part in proxy.parts if "/" in part.name
                } == set()
                assert learning_curves(workspace, current) == []
                with pytest.raises(FactoryError, match=r"proxy\.checkpoints"):
                    transfers(workspace)
                continue
            assert {outcome.node.kind for outcome in outcomes if outcome.made} == {
                "proxies",
                "evaluations",
                "leaderboard",
            }
            for evaluated in current.of("evaluations"):
                assert len(final_answers(evaluated)) == 1
                assert [part.notes["step"] for part in kept_answers(evaluated)] == [7, 15]
            said = signal(workspace)
            (card,) = [one for one in said["cards"] if one["task"] == "held"]
            assert (card["checkpoints"], card["monotonicity"]) == (3, 1.0)
            assert None not in (card["snr"], card["non_randomness"], card["ordering"])
            assert to_csv(said["rows"]).splitlines()[0] == ",".join(COLUMNS)
            (floor,) = [one for one in said["floors"] if one["task"] == "held"]
            assert floor["sigma_last"]["dof"] == 2
            assert [one["tokens"] for one in transfers(workspace)["decisions"]] == [896.0, 1920.0, 2944.0]
            page = render(gather(workspace))
            assert 'id="learning"' in page
            assert "<polygon" in page
    before, after = told.values()
    assert before[2] == after[2], "the same weights"
    assert before[1] == after[1], "the same board"
    assert all(items.equals(after[0][name]) for name, items in before[0].items())


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("checkpoints: 60", "Ask for 1 to"),
        ("checkpoints: 3, average: 3", "Leave one out"),
        ("checkpoints: 0", "checkpoints"),
    ],
)
def test_checkpoints_that_cannot_be_kept_are_refused_before_anything_runs(tmp_path, written, said):
    from judged_project import RECIPE, write_project

    from factory.core.errors import RecipeError
    from factory.recipes.load import load_recipe

    path = write_project(tmp_path, RECIPE.replace("  seeds: 1\n", "".join(f"  {one}\n" for one in written.split(", "))))
    with pytest.raises((RecipeError, InputError), match=said):
        load_recipe(path)
