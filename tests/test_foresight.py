"""What a run will take: the number of trainings, their operations and tokens are right, and time, disk and price have ranges."""

import json
from typing import Any

import pytest
from judged_project import judged  # noqa: F401

from factory.core.registry import find_stage
from factory.core.search import Proposal, Trial
from factory.execution.local import LocalExecutor
from factory.recipes.estimate import estimate
from factory.recipes.load import load_recipe
from factory.recipes.recipe import Search
from factory.recipes.rehearsal import rehearse
from factory.recipes.trial_training import Counting, limited
from factory.recipes.workspace import Workspace
from tests.searched_world import problem


def search(stage: str, **settings: Any) -> Search:
    found = find_stage("searcher", stage)
    config = found.config(**settings)
    return Search(
        label="s", stage=found, config=config, experiment="full", objectives=problem().objectives, tokens=1000
    )


@pytest.mark.parametrize(
    ("stage", "settings", "trials"),
    [
        ("fixed", {"mixtures": {"even": dict.fromkeys(problem().names, 1 / len(problem().names))}, "seeds": 3}, 6),
        ("leave_one_out", {"seeds": 2}, 2 * (1 + len(problem().names))),
        ("skill_it", {"seeds": 2}, None),
        ("doremi", {"seeds": 2}, 5),
        ("climb", {"rounds": (8, 2), "confirm_seeds": 2, "bootstrap": 2}, None),
    ],
)
def test_a_search_is_rehearsed_to_its_end_without_training(
    stage: str, settings: dict[str, Any], trials: int | None
) -> None:
    found = rehearse(search(stage, **settings), problem())
    assert found.there == 0
    assert found.rounds >= 1
    if trials is not None:
        assert len(found.missing) == trials
    assert len({proposal.name for proposal in found.missing}) == len(found.missing)


def test_trials_that_are_there_are_not_counted_again() -> None:
    asked = search("leave_one_out", seeds=2)
    whole = rehearse(asked, problem())

    def kept(proposal: Proposal) -> Trial | None:
        measured = dict.fromkeys(problem().objectives, 3.0)
        return Trial(proposal, measured) if proposal.name.startswith("base") else None

    rest = rehearse(asked, problem(), kept)
    assert (rest.there, len(rest.missing)) == (2, len(whole.missing) - 2)


def test_what_a_model_would_be_fed_is_counted_and_not_computed() -> None:
    from factory.evaluation.likelihood import Row

    model = Counting(None)
    assert [score.nats for score in model.score([Row([1, 2, 3], 2), Row([1, 2], 1)])] == [2.0, 1.0]
    assert model.token_nats([Row([1, 2, 3], 2)]) == [[1.0, 1.0]]
    assert model.tokens == 8


def test_a_limit_is_never_raised() -> None:
    from factory.evaluation.tasks import BitsPerByte

    assert limited(BitsPerByte(uri="x", limit=4), 12).model_dump()["limit"] == 4
    assert limited(BitsPerByte(uri="x"), 12).model_dump()["limit"] == 12


def test_an_estimate_knows_operations_and_tokens_of_trainings_that_were_made(judged: Any) -> None:  # noqa: F811
    with Workspace(load_recipe(judged.recipe), LocalExecutor(1)) as workspace:
        told = estimate(workspace, ["evaluations/full"], sample=60, again=True)
        record = workspace.need("proxies", "full", "nano-0").notes["record"]
        items = workspace.need("evaluations", "full", "nano-0").rows
        disk = workspace.need("proxies", "full", "nano-0").bytes
    lines = {line["name"]: line for line in told["datasets"]}
    trained, asked = lines["proxies/full@nano-0"], lines["evaluations/full@nano-0"]
    assert (trained["tokens"], trained["trainings"]) == (record["tokens_seen"], 1)
    assert trained["flops"] == pytest.approx(record["flops"], rel=1e-5)
    assert trained["disk"]["low"] < disk < 2 * trained["disk"]["high"]
    assert asked["items"] == items
    for name in ("proxies/full@nano-0", "evaluations/full@nano-0", "tokens/full"):
        line = lines[name]
        assert line["unknown"] is None, line
        assert 0 < line["cpu_seconds"]["low"] < line["cpu_seconds"]["value"] < line["cpu_seconds"]["high"]
    group = next(one for one in told["proofs"] if one["name"] == "full")
    assert (group["kind"], group["trainings"], group["usd"]) == ("experiment", 1, None)
    assert json.dumps(told)
