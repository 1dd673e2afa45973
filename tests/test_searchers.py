"""What every searcher promises, tried on a world where the best mixture is known; and what each method is published to reach."""

import json
import random
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from pydantic import ValidationError
from searched_world import NAMES, SMALL, measure, problem, search, searcher, true_loss

from factory.core.errors import FactoryError
from factory.core.fingerprint import canonical_json
from factory.core.registry import find_stage
from factory.core.search import Trial
from factory.mixing.boosted import BoostedFit, fit_boosted
from factory.mixing.shares import raised
from factory.mixing.solver import draw_candidates
from tests.worlds.w1_markov_domains import NATURAL, markov_domains

every_searcher = pytest.mark.parametrize("name", SMALL)


@cache
def world():
    return markov_domains()


@cache
def trials_of(name):
    return tuple(search(world(), searcher(name, **SMALL[name]), problem()))


@cache
def finding_of(name):
    return searcher(name, **SMALL[name]).finish(problem(), trials_of(name))


@every_searcher
def test_a_search_ends_and_its_finding_is_a_mixture(name):
    finding, trials = finding_of(name), trials_of(name)
    assert sum(finding.weights.values()) == pytest.approx(1, abs=1e-9)
    assert set(finding.weights) == set(NAMES)
    assert all(sum(weights.values()) == pytest.approx(1, abs=1e-9) for weights in finding.candidates.values())
    names = [trial.proposal.name for trial in trials]
    assert len(set(names)) == len(names)
    assert json.loads(canonical_json(finding.to_json()))["weights"] == finding.weights


@every_searcher
def test_a_stopped_search_asks_for_what_is_missing(name):
    trials, made = trials_of(name), searcher(name, **SMALL[name])
    proposals = {trial.proposal.name: trial.proposal for trial in trials}
    for done in (0, 1, len(trials) // 2, len(trials) - 1):
        asked = made.ask(problem(), trials[:done])
        assert asked
        known = {trial.proposal.name for trial in trials[:done]}
        assert all(proposal == proposals[proposal.name] and proposal.name not in known for proposal in asked)
    assert made.ask(problem(), trials) == []


@every_searcher
def test_the_order_in_which_trials_ended_changes_nothing(name):
    shuffled = list(trials_of(name))
    random.Random(1).shuffle(shuffled)
    made = searcher(name, **SMALL[name])
    assert made.finish(problem(), shuffled) == finding_of(name)
    first = [trial for trial in shuffled if not trial.proposal.name.startswith("confirm")]
    in_order = [trial for trial in trials_of(name) if not trial.proposal.name.startswith("confirm")]
    assert made.ask(problem(), first) == made.ask(problem(), in_order)


def broken(trial):
    return Trial(trial.proposal, {}, valid=False, reason="loss is not a number")


@every_searcher
def test_one_broken_trial_is_left_out_and_told_of(name):
    trials = list(trials_of(name))
    # Not of a first round: a searcher that learns from it would then ask for others.
    lost = len(trials) - 1
    trials[lost] = broken(trials[lost])
    finding = searcher(name, **SMALL[name]).finish(problem(), trials)
    assert trials[lost].proposal.name in finding.notes["trials_failed"]
    assert any("1 trials broke down" in warning for warning in finding.warnings)


@every_searcher
def test_too_many_broken_trials_are_refused(name):
    trials = [broken(trial) if place % 2 else trial for place, trial in enumerate(trials_of(name))]
    with pytest.raises(FactoryError, match=r"trials can be used, at least 90% .*loss is not a number"):
        searcher(name, **SMALL[name]).finish(problem(), trials)
    with pytest.raises(FactoryError, match=r"0 of \d+ trials can be used"):
        searcher(name, **SMALL[name]).finish(problem(), [])


@pytest.mark.parametrize("name", ["regmix", "olmix", "mixing_law", "climb"])
def test_baselines_are_among_the_trials_and_confirmations_are_fresh(name):
    roles = {trial.proposal.name: trial.proposal for trial in trials_of(name)}
    assert {"natural", "uniform", "unimax", "single-a"} <= set(roles)
    fresh = [proposal for proposal in roles.values() if proposal.role == "confirm"]
    assert {proposal.seed for proposal in fresh} == {1, 2}
    assert {"confirm-natural-1", "confirm-predicted-2"} <= set(roles)
    notes = finding_of(name).notes
    assert notes["held_out_rank_correlation"] > notes["shuffled_rank_correlation"]
    assert set(finding_of(name).effects) == set(NAMES)
    assert {"predicted", "best_measured", "natural", "uniform", "unimax"} <= set(finding_of(name).candidates)


@pytest.mark.parametrize("name", ["regmix", "climb", "olmix", "mixing_law", "fixed"])
def test_what_is_recommended_is_truly_better_than_natural(name):
    optimum = world().optimum()[1]
    assert world().distance(true_loss(world(), finding_of(name).weights), optimum) < 0.5


@pytest.mark.parametrize("name", ["regmix", "olmix"])
def test_the_recommendation_repeats_no_domain_beyond_its_bound(name):
    asked = problem(max_epochs=2.0)
    trials = search(world(), searcher(name, **SMALL[name]), asked)
    finding = searcher(name, **SMALL[name]).finish(asked, trials)
    for weights in (finding.weights, *finding.candidates.values()):
        assert all(share <= asked.caps[domain] * (1 + 1e-9) for domain, share in weights.items())


def test_where_all_mixtures_are_alike_the_base_stands():
    made = searcher("regmix", **SMALL["regmix"])

    def noise(proposal):
        generator = np.random.default_rng([len(proposal.name), *proposal.name.encode(), proposal.seed])
        return Trial(proposal, {"loss": 3 + generator.normal(0, 0.01)})

    trials = []
    while waiting := made.ask(problem(), trials):
        trials += [noise(proposal) for proposal in waiting]
    finding = made.finish(problem(), trials)
    assert finding.notes["taken"] == "natural"
    assert finding.weights == pytest.approx(problem().natural, abs=1e-6)
    assert any("no better than chance" in warning for warning in finding.warnings)
    assert any("The base stands" in warning for warning in finding.warnings)


def test_without_confirmation_the_finding_says_that_it_is_unproven():
    settings = {**SMALL["regmix"], "confirm_seeds": 0}
    trials = [trial for trial in trials_of("regmix") if trial.proposal.role != "confirm"]
    assert searcher("regmix", **settings).ask(problem(), trials) == []
    finding = searcher("regmix", **settings).finish(problem(), trials)
    assert finding.notes["taken"] == "predicted"
    assert any("unproven" in warning for warning in finding.warnings)


def test_one_confirmation_is_refused_because_it_shows_no_noise():
    with pytest.raises(ValidationError, match="one training shows no noise"):
        searcher("regmix", confirm_seeds=1)


def test_a_larger_search_begins_with_the_smaller_one():
    small = searcher("regmix", trials=64).ask(problem(), [])
    large = searcher("regmix", trials=128).ask(problem(), [])
    assert large[: len(small)] == small
    assert len(searcher("olmix").ask(problem(), [])) == 4 + 3 * (6 + 1)
    assert len(searcher("regmix").ask(problem(), [])) == 4 + 64


def test_reuse_searches_the_changed_domains_alone():
    solved = {"a": 0.1, "b": 0.3, "c": 0.3, "d": 0.3}
    settings = {**SMALL["olmix"], "solved": solved, "trials": 12}
    made = searcher("olmix", **settings)
    swarm = [proposal for proposal in made.ask(problem(), []) if proposal.role == "swarm"]
    for proposal in swarm:
        rest = sum(proposal.weights[name] for name in solved)
        assert [proposal.weights[name] for name in solved] == pytest.approx([rest * p for p in solved.values()])
    finding = made.finish(problem(), search(world(), made, problem()))
    # Neither of the new domains is worth more than the mixture that was solved.
    assert finding.candidates["predicted"]["e"] + finding.candidates["predicted"]["f"] < 0.5
    with pytest.raises(ValidationError, match="give it as solved"):
        searcher("olmix", affected=("a",))


def test_uncertain_domains_get_their_natural_share_where_that_is_asked():
    settings = {**SMALL["mixing_law"], "prior_where_unsure": True, "bootstrap": 10}
    asked = problem()
    finding = searcher("mixing_law", **settings).finish(asked, trials_of("mixing_law"))
    unsure = finding.notes["set_to_natural"]
    assert unsure
    for name in unsure:
        assert finding.intervals[name][0] <= asked.natural[name] <= finding.intervals[name][1]
        assert finding.candidates["predicted"][name] == pytest.approx(asked.natural[name], abs=1e-5)


def test_a_mixing_law_can_be_fitted_to_what_shorter_trials_foretell():
    settings = {**SMALL["mixing_law"], "budgets": (0.25, 0.5, 1.0), "trials": 21, "confirm_seeds": 0}
    made = searcher("mixing_law", **settings)
    trials = search(world(), made, problem())
    assert {trial.proposal.tokens for trial in trials} == {None, 5_000, 10_000}
    finding = made.finish(problem(), trials)
    assert finding.notes["predicted_at_tokens"] == 1_000_000
    with pytest.raises(ValidationError, match="at least 3 shares"):
        searcher("mixing_law", budgets=(0.5, 1.0))


def test_the_second_round_of_climb_does_not_depend_on_how_far_it_has_come():
    made, trials = searcher("climb", **SMALL["climb"]), trials_of("climb")
    first = [t for t in trials if t.proposal.name.startswith(("round-0", "natural", "uni", "single"))]
    second = made.ask(problem(), first)
    assert len(second) == SMALL["climb"]["rounds"][1]
    half = first + [measure(world(), proposal) for proposal in second[:4]]
    assert made.ask(problem(), half) == second[4:]


@cache
def climbed(seed):
    """True losses of CLIMB's best measured mixture, and of the best prediction from as many trials at once."""
    asked = problem(seed)
    settings = {"rounds": (64, 32, 16), "candidates": 10_000, "confirm_seeds": 0, "candidate_strength": 6}
    trials = search(world(), searcher("climb", **settings), asked, seed=seed)
    measured = [trial for trial in trials if trial.proposal.name.startswith("round")]
    best = min(measured, key=lambda trial: trial.metrics["loss"])
    draws = draw_candidates(np.array(raised(NATURAL, 0.5)), 112, seed, strength=6, offset=0.05)
    losses = world().train_all(draws, 20_000, seed)
    candidates = draw_candidates(np.array(raised(NATURAL, 0.5)), 10_000, seed + 100, strength=6, offset=0.05)
    predicted = fit_boosted(draws, losses, seed, BoostedFit(300, folds=0)).predict(candidates)
    once = candidates[int(np.argmin(predicted))]
    return true_loss(world(), best.proposal.weights), world().true_loss(once), len(measured)


@pytest.mark.parametrize("seeds", [2, pytest.param(6, marks=pytest.mark.slow)])
def test_climb_beats_one_round_of_as_many_trials_and_comes_near_the_optimum(seeds):
    # Published in this world: 2.604 for the best measured, 2.635 for one round, 2.583 for the optimum.
    found = [climbed(seed) for seed in range(seeds)]
    bootstrapped, once, counts = zip(*found, strict=True)
    assert set(counts) == {112}
    assert np.mean(bootstrapped) < np.mean(once)
    assert np.mean(bootstrapped) - world().optimum()[1] <= 0.05


def removal(signs=1):
    """Change of the loss, and in standard deviations of a seed, when each domain is left out of the natural mixture."""
    made = searcher("leave_one_out", seeds=8)
    trials = search(world(), made, problem())
    flipped = [Trial(trial.proposal, {"loss": signs * trial.metrics["loss"]}) for trial in trials]
    assert len(trials) == 7 * 8
    rows = made.finish(problem(), flipped).notes["changes"]
    return {row["domain"]: row for row in rows}


def test_leaving_a_domain_out_shows_where_its_share_is_too_high():
    # Published in this world: -.196, +.092, +.112, +.234, +.033, -.040.
    rows = removal()
    changes = [rows[name]["change"] for name in NAMES]
    assert changes == pytest.approx([-0.196, 0.092, 0.112, 0.234, 0.033, -0.040], abs=0.02)
    assert changes[0] < 0 < changes[3]
    assert min(abs(rows[name]["in_seed_deviations"]) for name in ("a", "d")) >= 5
    assert all(row["low"] < row["change"] < row["high"] for row in rows.values())
    assert rows["a"]["high"] < 0 < rows["d"]["low"]


def test_flipped_losses_flip_what_leaving_out_shows():
    rows = removal(signs=-1)
    assert rows["a"]["change"] > 0 > rows["d"]["change"]


def test_a_domain_that_helps_when_it_goes_is_paired_with_a_little_more_of_it():
    rows = finding_of("leave_one_out").notes["changes"]
    assert {row["kind"] for row in rows} == {"without", "with more"}
    alone = searcher("leave_one_out", seeds=2)
    assert any("present share" in text for text in alone.finish(problem(), search(world(), alone, problem())).warnings)
    assert finding_of("leave_one_out").warnings == ()


def test_given_mixtures_must_be_whole_and_of_known_domains():
    with pytest.raises(ValidationError, match=r"those of 'x' sum to 0.9"):
        searcher("fixed", mixtures={"x": {"a": 0.9}})
    with pytest.raises(ValidationError, match="'natural' is a baseline's name"):
        searcher("fixed", mixtures={"natural": {"a": 1.0}})
    with pytest.raises(FactoryError, match=r"mixture 'x' names 'z', which is no domain"):
        searcher("fixed", mixtures={"x": {"z": 1.0}}).ask(problem(), [])
    with pytest.raises(FactoryError, match=r"no domain is named 'z'"):
        searcher("leave_one_out", domains=("z",)).ask(problem(), [])


def test_the_best_of_given_mixtures_is_taken():
    assert finding_of("fixed").notes["taken"] == "target"
    assert finding_of("fixed").weights["c"] == 0.5


def test_every_searcher_is_in_the_catalogue():
    assert all(find_stage("searcher", name).doc for name in SMALL)


@pytest.mark.parametrize("name", ["fixed", "leave_one_out"])
def test_what_is_within_its_bounds_is_not_rounded_out_of_them(name):
    loose = problem()
    tight = replace(loose, max_epochs={**loose.max_epochs, "a": 0.1234567 / loose.natural["a"]})
    found = searcher(name, **({"mixtures": {"even": dict.fromkeys("abcdef", 1 / 6)}} if name == "fixed" else {}))
    trials = [measure(markov_domains(0), proposal) for proposal in found.ask(tight, [])]
    finding = found.finish(tight, trials)
    for weights in (finding.weights, finding.candidates["natural" if name == "fixed" else "base"]):
        assert all(share <= tight.caps[domain] * (1 + 1e-9) for domain, share in weights.items())


@pytest.mark.parametrize("base", [{"a": float("nan"), "b": 1.0}, {"a": 0.5}])
def test_a_base_that_is_no_mixture_is_refused(base):
    with pytest.raises(FactoryError, match="sum to 1"):
        searcher("leave_one_out", base=base).ask(problem(), [])


def test_libraries_that_fit_are_part_of_what_a_search_is():
    def packages(name, **settings):
        stage = find_stage("searcher", name)
        return set(stage.packages_for(stage.config(**settings)))

    assert packages("regmix") == packages("climb") == {"lightgbm"}
    assert packages("regmix", regression="exponential") == set()
    assert packages("olmix") == packages("mixing_law") == packages("cmr", domain="a") == {"scipy"}


def test_where_the_base_breaks_down_in_the_confirmation_it_stands():
    trials = [
        broken(trial) if trial.proposal.name.startswith("confirm-natural") else trial for trial in trials_of("regmix")
    ]
    finding = searcher("regmix", **SMALL["regmix"]).finish(problem(), trials)
    assert finding.notes["taken"] == "natural"
    assert finding.weights == pytest.approx(problem().natural, abs=1e-6)
    assert finding.notes["gain_over_base"] is None
    assert any("'natural' was not measured" in said and "The base stands" in said for said in finding.warnings)
    assert not any("unproven" in said for said in finding.warnings)


def test_a_fixed_search_says_that_what_picked_its_mixture_also_measured_it():
    finding = finding_of("fixed")
    assert finding.notes["taken"] != "natural"
    assert finding.notes["fresh_trainings"] is False
    assert any("picked by the trainings that measured it" in said for said in finding.warnings)


def test_budgets_that_are_alike_have_trials_of_their_own():
    budgets = (0.333333331, 0.333333332, 1.0)
    made = searcher("mixing_law", budgets=budgets, trials=21)
    names = [proposal.name for proposal in made.ask(problem(), [])]
    assert len(names) == len(set(names))
