"""Searches that train with changing shares, merge models or go on from one, on worlds where the answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from factory.core.errors import FactoryError
from factory.core.noise import pooled_noise
from factory.core.registry import find_stage
from factory.core.search import Domain, Problem, Trial
from factory.mixing import cmr as laws
from factory.mixing.guards import half_width
from factory.stages.searchers.merge_ablation import _name
from tests.searched_world import problem, searcher
from tests.worlds import w1_markov_domains as markov
from tests.worlds import w4_shared_bigram as bigram

FOUND = dict(zip("abcdef", (0.0, 0.306, 0.311, 0.383, 0.0, 0.0), strict=True))
DGA = {"target": {"c": 0.5, "e": 0.3, "a": 0.2}}
METHODS = {"skill_it": {}, "doremi": {}, "dga": DGA, "aioli": {"probe_steps": 2}}


def play(found, asked, train):
    """All trials a searcher asks for; `train(proposal, trials by name)` measures one."""
    trials = {}
    while waiting := found.ask(asked, list(trials.values())):
        assert not {proposal.name for proposal in waiting} & set(trials)
        for proposal in waiting:
            needed = (*(proposal.merge.of if proposal.merge else ()), *([proposal.init] if proposal.init else ()))
            # What others go on from has to be there, and its model kept.
            assert all(trials[name].proposal.role in ("base", "expert") for name in needed)
        done = {proposal.name: train(proposal, trials) for proposal in waiting}
        trials |= done
    return list(trials.values())


def markov_trainer(found=FOUND, valid=True):
    world = markov.markov_domains(0)

    def train(proposal, trials):
        if proposal.online is not None:
            assert set(proposal.weights) == set("abcdef")
            return Trial(proposal, {"loss": 3.0}, valid, None if valid else "nan", {"weights": found})
        generator = np.random.default_rng([proposal.seed, len(proposal.name)])
        return Trial(proposal, {"loss": world.train([proposal.weights[name] for name in "abcdef"], 20_000, generator)})

    return train


# --- online methods


@pytest.mark.parametrize("method", METHODS)
def test_what_was_found_is_trained_anew_and_taken_where_it_is_better(method):
    found = searcher(method, **METHODS[method])
    trials = play(found, problem(), markov_trainer())
    finding = found.finish(problem(), trials)
    assert finding.notes["taken"] == "found"
    assert finding.weights == pytest.approx(FOUND, abs=1e-6)
    assert finding.predicted["loss"][1] < finding.predicted["loss"][0] < finding.notes["confirmed"][-1]["mean"]
    assert finding.notes["gain_over_base"] > 0.1
    assert found.ask(problem(), trials) == []
    assert found.finish(problem(), trials[::-1]) == finding


@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_better_leaves_the_base_standing(method):
    found = searcher(method, **METHODS[method])
    worse = dict(zip("abcdef", (0.9, 0.02, 0.02, 0.02, 0.02, 0.02), strict=True))
    finding = found.finish(problem(), play(found, problem(), markov_trainer(worse)))
    assert finding.notes["taken"] == "natural"
    assert finding.weights == pytest.approx(problem().natural, abs=1e-6)
    assert any("base stands" in warning for warning in finding.warnings)
    assert finding.candidates["unbounded"] == pytest.approx(worse)


def test_a_run_that_broke_down_finds_nothing():
    found = searcher("aioli", probe_steps=2)
    finding = found.finish(problem(), play(found, problem(), markov_trainer(valid=False)))
    assert finding.notes["taken"] == "natural"
    assert "broke down" in finding.warnings[0]


def test_what_repeats_a_domain_too_often_is_trained_within_its_bound():
    asked = problem(tokens=1_000_000, max_epochs=4.0)
    found = searcher("dga", **DGA)
    finding = found.finish(asked, play(found, asked, markov_trainer()))
    assert finding.candidates["found"]["c"] == pytest.approx(0.2)
    assert finding.candidates["unbounded"]["c"] == pytest.approx(0.311)
    assert any("max_epochs" in warning for warning in finding.warnings)


def test_doremi_trains_a_reference_first_and_again_until_shares_settle():
    found = searcher("doremi", rounds=3)
    trials = play(found, problem(), markov_trainer())
    runs = [trial.proposal for trial in trials if trial.proposal.role == "online"]
    assert [(run.name, run.init) for run in runs] == [("online-0", "natural-0"), ("online-1", "reference-1")]
    assert next(t for t in trials if t.proposal.name == "reference-1").proposal.weights == pytest.approx(FOUND)
    plain = searcher("doremi", reference=False)
    assert all(trial.proposal.init is None for trial in play(plain, problem(), markov_trainer()))


def test_bad_settings_are_said_before_anything_is_trained():
    with pytest.raises(FactoryError, match="no domain is named 'z'"):
        searcher("dga", target={"z": 1.0}).ask(problem(), [])
    for target, message in (({"a": 0.5}, r"sum to 0\.5"), ({"a": float("nan"), "b": 1.0}, "a: nan")):
        with pytest.raises(ValueError, match=message):
            searcher("dga", target=target)
    with pytest.raises(FactoryError, match=r"Raise focus above 0\.167"):
        searcher("aioli", focus=1 / 6).ask(problem(), [])
    with pytest.raises(FactoryError, match=r"6 domains x 4 sweeps x 20 steps are 1.9 rounds"):
        searcher("aioli", probe_steps=20).ask(problem(), [])
    with pytest.raises(ValueError, match="target"):
        find_stage("searcher", "dga").config()


# --- merging


def chain_world(strangers=True):
    """Domains are mixtures of four chains, models are tables of bigram logits."""
    random = np.random.default_rng(1)
    bases = np.stack(bigram.make_chains(0, 4))
    parts = dict(zip("abcde", np.tensordot(random.dirichlet(np.full(4, 0.5), 5), bases, 1), strict=True))
    target = np.tensordot([0.6, 0.3, 0.1, 0.0], bases, 1)
    models = {}

    def train(proposal, trials):
        if proposal.merge is not None:
            tables = [
                weight * models[name] for name, weight in zip(proposal.merge.of, proposal.merge.weights, strict=True)
            ]
            models[proposal.name] = np.sum(tables, axis=0)
        else:
            steps = np.full((proposal.tokens or 20_000) // 64, 0.3)
            names = list(proposal.weights)
            start = models[proposal.init] if proposal.init else None
            shares = [proposal.weights[name] for name in names]
            chains = [parts[name] for name in names]
            models[proposal.name] = bigram.train(chains, shares, steps, 5 + proposal.seed, start)
        return Trial(proposal, {"loss": bigram.loss(models[proposal.name], target)})

    return train


def chain_problem():
    domains = tuple(Domain(name, 1_000_000, 100) for name in "abcde")
    return Problem(domains, 1_000_000, dict.fromkeys("abcde", 4.0), 20_000, ("loss",), 0)


def test_unions_are_ranked_by_merged_experts_and_the_best_is_trained():
    found = searcher("merge_ablation", expert_tokens=12_800, checks=8, control=True)
    trials = play(found, chain_problem(), chain_world())
    finding = found.finish(chain_problem(), trials)
    assert finding.notes["spearman"] >= 0.9
    assert finding.notes["checked"] == 8
    assert len(finding.notes["unions"]) == 31
    assert sum(trial.proposal.role == "expert" for trial in trials) == 10
    best = finding.notes["unions"][0]["domains"]
    assert {name for name, share in finding.weights.items() if share > 0} == set(best)
    assert finding.notes["taken"] == "found-0"
    effects = [finding.effects[name]["loss"] for name in "abcde"]
    assert min(effects) < 0 < max(effects)
    assert finding.notes["strangers_merged"] is not None


def test_a_merged_order_that_does_not_hold_is_warned_of():
    train = chain_world()

    def shuffled(proposal, trials):
        trial = train(proposal, trials)
        noise = np.random.default_rng(list(proposal.name.encode())).normal() if proposal.merge else 0.0
        return replace(trial, metrics={"loss": trial.metrics["loss"] + 5 * noise})

    found = searcher("merge_ablation", expert_tokens=6_400, checks=8)
    finding = found.finish(chain_problem(), play(found, chain_problem(), shuffled))
    assert any("Merged models order unions" in warning for warning in finding.warnings)


def test_unions_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="unions of 3 to 2"):
        searcher("merge_ablation", smallest=3, largest=2)
    with pytest.raises(FactoryError, match="0 merged models were measured"):
        searcher("merge_ablation").finish(chain_problem(), [])


# --- critical mixture ratio


def general(ratio, budget):
    return 0.35 * ratio**1.5 * budget**0.12 - 0.008 * (1 - ratio) * budget**0.5


def cpt_problem():
    domains = (Domain("code", 500_000, 10), Domain("law", 100_000, 10), Domain("web", 1_500_000, 10))
    return Problem(domains, 1_000_000, dict.fromkeys(("code", "law", "web"), 9.0), 20_000, ("loss/web", "loss/law"), 0)


def cpt_trainer(noise=0.0):
    def train(proposal, trials):
        if proposal.name == "base":
            assert proposal.weights["law"] == 0.0
            return Trial(proposal, {"loss/web": 3.0, "loss/law": 5.0})
        assert proposal.weights["code"] == pytest.approx(proposal.weights["web"] / 3, abs=1e-6)
        ratio, budget = proposal.weights["law"], proposal.tokens / 200  # 100 at the full budget
        drawn = np.random.default_rng([proposal.seed, proposal.tokens, round(1e6 * ratio)]).normal(0.0, noise)
        return Trial(
            proposal, {"loss/web": 3.0 + general(ratio, budget) + drawn, "loss/law": 5.0 - ratio * budget**0.1}
        )

    return train


def test_the_share_of_a_new_domain_is_the_largest_that_is_tolerated():
    budgets = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0]
    found = searcher("cmr", domain="law", budgets=budgets)
    finding = found.finish(cpt_problem(), play(found, cpt_problem(), cpt_trainer(noise=0.003)))
    assert finding.weights["law"] == pytest.approx(0.310, abs=0.01)
    low, high = finding.intervals["law"]
    assert low <= 0.310 <= high
    assert finding.weights["web"] == pytest.approx(3 * finding.weights["code"], abs=1e-5)
    assert finding.predicted["loss/web"][0] == pytest.approx(3.05, abs=0.01)
    law = laws.PowerLaw(**finding.notes["law"])
    assert (np.diff(law(finding.notes["budgets"])) > 0).all()
    assert np.array(finding.notes["special_change"]).max() < 0


def test_a_checkpoint_of_the_recipe_is_the_start_where_its_losses_are_given():
    found = searcher("cmr", domain="law", start={"loss/web": 3.0, "loss/law": 5.0}, seeds=1)
    trials = play(found, cpt_problem(), cpt_trainer())
    assert {trial.proposal.init for trial in trials} == {None}
    finding = found.finish(cpt_problem(), trials)
    assert finding.weights["law"] == pytest.approx(0.310, abs=0.01)
    assert any("no interval" in warning for warning in finding.warnings)


def test_the_interval_of_a_measured_loss_is_that_of_a_mean_over_seeds():
    found = searcher("cmr", domain="law", seeds=4)
    trials = play(found, cpt_problem(), cpt_trainer(noise=0.01))
    finding = found.finish(cpt_problem(), trials)
    groups = {}
    for trial in trials[1:]:
        groups.setdefault(trial.proposal.name.rpartition("-")[0], []).append(trial.metrics["loss/web"])
    deviation, degrees = pooled_noise([np.array(values) for values in groups.values()])
    _, low, high = finding.predicted["loss/web"]
    assert (high - low) / 2 == pytest.approx(half_width(deviation, degrees, 4**-0.5))


def test_a_start_need_not_tell_what_the_domain_is_for():
    found = searcher("cmr", domain="law", start={"loss/web": 3.0}, seeds=1)
    finding = found.finish(cpt_problem(), play(found, cpt_problem(), cpt_trainer()))
    assert finding.notes["special_change"] is None


def test_a_metric_of_a_task_that_no_trial_is_asked_is_refused_before_anything_is_trained():
    for role in ("general", "special"):
        with pytest.raises(FactoryError, match="'perplexity/web' is of no task"):
            searcher("cmr", domain="law", **{role: "perplexity/web"}).ask(cpt_problem(), [])


def test_where_every_ratio_is_too_much_none_is_recommended():
    found = searcher("cmr", domain="law", tolerance=0.001, ratios=(0.5, 0.75))
    finding = found.finish(cpt_problem(), play(found, cpt_problem(), cpt_trainer()))
    assert finding.weights["law"] == 0.0
    assert "No share is recommended" in finding.warnings[0]
    easy = searcher("cmr", domain="law", tolerance=10.0, ratios=(0.5, 0.75))
    finding = easy.finish(cpt_problem(), play(easy, cpt_problem(), cpt_trainer()))
    assert finding.weights["law"] == 0.75
    assert "Add larger ratios" in finding.warnings[0]


def test_what_the_ratio_search_lacks_is_said():
    with pytest.raises(FactoryError, match=r"no domain is named 'laws'\. Did you mean 'law'"):
        searcher("cmr", domain="laws").ask(cpt_problem(), [])
    with pytest.raises(FactoryError, match="start has no 'loss/web'"):
        searcher("cmr", domain="law", start={"x": 1.0}).ask(cpt_problem(), [])
    with pytest.raises(FactoryError, match=r"was not measured for ratio 0\.125 at 0\.25"):
        searcher("cmr", domain="law", start={"loss/web": 1.0}).finish(cpt_problem(), [])
    with pytest.raises(ValueError, match="rising numbers"):
        searcher("cmr", domain="law", ratios=(0.5, 0.25))


def test_ratios_that_are_alike_have_trials_and_candidates_of_their_own():
    ratios = (0.30001, 0.30002, 0.5)
    found = searcher("cmr", domain="law", ratios=ratios, start={"loss/web": 3.0}, seeds=1)
    trials = play(found, cpt_problem(), cpt_trainer())
    assert len({trial.proposal.name for trial in trials}) == len(trials) == 3 * 4
    candidates = found.finish(cpt_problem(), trials).candidates
    assert {"ratio 0.30001", "ratio 0.30002"} <= set(candidates)
    usual = searcher("cmr", domain="law", start={"loss/web": 3.0}, seeds=1).ask(cpt_problem(), [])
    assert usual[2].name == "ratio-0.3333-at-0.2500-0"


def test_domains_with_a_plus_in_their_names_are_told_from_unions():
    assert _name("merge", ("a+b",)) != _name("merge", ("a", "b"))
    assert _name("merge", ("a+b", "c")) != _name("merge", ("a", "b+c"))
    assert _name("merge", ("a%2Bb",)) != _name("merge", ("a+b",))
    assert _name("merge", ("web", "books")) == "merge-web+books"
