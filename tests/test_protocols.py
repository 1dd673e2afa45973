"""Standard experiments run dry, on a world where the answer is known: noise floor, and leaving domains out."""

import numpy as np
import pytest

from factory.evaluation.field import corrected
from factory.evaluation.noise import noise_floors
from factory.evaluation.scores import scores_of
from factory.evaluation.statistics import Sample, Verdict, judge
from tests.worlds.w1_markov_domains import NATURAL, MarkovDomains, markov_domains

TRANSITIONS = 20_000


@pytest.fixture(scope="module")
def world() -> MarkovDomains:
    return markov_domains()


def seeds_of(world: MarkovDomains, shares: np.ndarray, name: str, count: int) -> list[dict[str, object]]:
    rows = []
    for seed in range(count):
        value = world.train(shares, TRANSITIONS, np.random.default_rng([seed, *map(ord, name)]))
        rows.append(
            {
                "task": "target",
                "experiment": name,
                "scale": "w1",
                "seed": seed,
                "value": value,
                "higher_is_better": False,
            }
        )
    return rows


def without(domain: int) -> np.ndarray:
    shares = np.delete(NATURAL, domain)
    return np.insert(shares / shares.sum(), domain, 0.0)


def test_the_noise_floor_of_a_control_is_that_of_many_seeds_and_makes_the_task_usable(world: MarkovDomains) -> None:
    uniform = np.full(6, 1 / 6)
    rows = [*seeds_of(world, NATURAL, "control", 5), *seeds_of(world, uniform, "uniform", 5)]
    (floor,) = noise_floors(scores_of(rows, "w1"), "control")
    truth = np.std([row["value"] for row in seeds_of(world, NATURAL, "truth", 200)], ddof=1)
    assert floor.control == "control"
    assert floor.sigma_interval is not None
    assert floor.sigma_interval.low <= truth <= floor.sigma_interval.high
    assert floor.usable
    assert floor.snr is not None
    assert floor.snr > 5


def test_leaving_domains_out_finds_those_the_target_is_made_of(world: MarkovDomains) -> None:
    def sample(shares: np.ndarray, name: str) -> Sample:
        seeds = np.array([row["value"] for row in seeds_of(world, shares, name, 3)], dtype=float)
        return Sample(seeds, np.tile(seeds, (50, 1)))  # the whole target is asked: there is no noise of items

    arms = {f"without {domain}": sample(without(domain), f"arm {domain}") for domain in range(6)}
    control = sample(NATURAL, "control")
    found: dict[str, Verdict] = {
        name: judge(control, arm, pool=[other.seeds for other in arms.values() if other is not arm], key=name)
        for name, arm in arms.items()
    }
    verdicts, _ = corrected(found)
    for domain in range(6):
        verdict = verdicts[f"without {domain}"]
        gap = world.true_loss(without(domain)) - world.true_loss(NATURAL)
        if abs(gap) > 6 * verdict.noise.sigma:
            assert verdict.outcome == ("worse" if gap > 0 else "better"), f"domain {domain}: {gap:.4f}"
            assert verdict.difference == pytest.approx(gap, rel=0.5, abs=4 * verdict.noise.sigma)
    assert sum(one.outcome != "undecided" for one in verdicts.values()) >= 3
