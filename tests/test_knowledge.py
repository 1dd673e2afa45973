"""Long tail, time, toxicity and membership: each on a world whose answer is known."""

import itertools
import json
import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import spearmanr

from factory.core.errors import InputError
from factory.evaluation.domains import task_domains
from factory.evaluation.evaluate import evaluate_model
from factory.evaluation.likelihood import Row, RowScore
from factory.evaluation.longtail import bin_of, trend
from factory.evaluation.membership import min_k
from factory.evaluation.separation import auc, hits_at
from factory.evaluation.tasks import LongTail, Membership, Temporal, Toxicity
from factory.evaluation.temporal import misalignment, period
from factory.evaluation.toxicity import said
from factory.stages.scorers import support
from tests.worlds.w7_fact_world import COUNTS, Fact, make_facts, recalled, tell

STATES = 200
START = STATES


class Chain:
    """A bigram table over states, whose texts are words of numbers."""

    start, context, adds_start = START, 4096, False

    def __init__(self, sequences: Sequence[Sequence[int]], epochs: int = 1, smoothing: float = 0.05) -> None:
        self.counts = np.full((STATES + 1, STATES), smoothing)
        for sequence in sequences:
            np.add.at(self.counts, ([START, *sequence[:-1]], list(sequence)), epochs)
        self.nats = -np.log(self.counts / self.counts.sum(1, keepdims=True))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [[int(word) for word in text.split()] for text in texts]

    def token_nats(self, rows: Sequence[Row]) -> list[list[float]]:
        return [
            [self.nats[a, b] for a, b in zip(row.tokens, row.tokens[1:], strict=False)][-row.scored :] for row in rows
        ]

    def score(self, rows: Sequence[Row]) -> list[RowScore]:
        return [RowScore(float(sum(nats)), False) for nats in self.token_nats(rows)]


def lines(rows: Sequence[object]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


# --- long tail


@pytest.fixture(scope="module")
def facts() -> list[object]:
    return list(make_facts(300))


def supporting(facts: Sequence[Fact], texts: Sequence[str]) -> np.ndarray:
    """By fact, the documents that hold its person and its value."""
    records = [
        {"question": f"What is the {fact.attribute}?", "entity": fact.person, "answer": fact.value} for fact in facts
    ]
    made = support.build(support.Settings(benchmarks={"facts": {"records": records}}), {})
    found = made.score(pa.record_batch([pa.array(texts, pa.large_string())], names=["text"])).column("found")
    return np.bincount(found.flatten().to_numpy(), minlength=len(facts))


def test_documents_with_question_and_answer_are_counted_exactly(facts: list) -> None:
    told = [text for _, text in tell(facts)]
    others = [f"{fact.person}x lives in {fact.value}." for fact in facts]
    others += [f"{fact.person} left {fact.value}y." for fact in facts]
    others += [f"{fact.person} was here." for fact in facts] + [f"{fact.value} is old." for fact in facts]
    mixed = [
        told[at] if at < len(told) else others[at - len(told)]
        for at in np.random.default_rng(0).permutation(len(told) + len(others))
    ]
    # Values of one attribute are no other's, so what was told of a person is what is found.
    assert supporting(facts, mixed).tolist() == [fact.count for fact in facts]


def test_recall_rises_with_the_number_of_documents(facts: list) -> None:
    told = tell(facts)
    right = recalled(facts, [at for at, _ in told])
    counts = supporting(facts, [text for _, text in told])
    means = [right[counts == count].mean() for count in COUNTS]
    assert all(one <= other for one, other in itertools.pairwise(means)), means
    assert spearmanr(np.log(COUNTS), means).statistic >= 0.9
    found = trend(counts.tolist(), right.astype(float).tolist())
    assert found["slope"] > 0.3
    assert found["items"] == len(facts)


def test_nine_in_ten_documents_less_give_the_accuracy_of_the_lower_bin(facts: list) -> None:
    told = tell(facts)
    places = {
        at: [n for n, (one, _) in enumerate(told) if one == at] for at in range(len(facts)) if facts[at].count == 20
    }
    kept = {n for at, own in places.items() for n in np.random.default_rng(at).choice(own, 2, replace=False)}
    thinned = [one for n, one in enumerate(told) if one[0] not in places or n in kept]
    right = recalled(facts, [at for at, _ in thinned])
    counts = np.array([fact.count for fact in facts])
    left = supporting(facts, [text for _, text in thinned])
    assert (left[counts == 20] == 2).all()
    assert right[counts == 20].mean() == pytest.approx(right[counts == 2].mean(), abs=0.05)


@pytest.mark.parametrize(
    ("count", "per_decade", "label"),
    [(0, 1, "0"), (1, 1, "1-9"), (9, 1, "1-9"), (10, 1, "10-99"), (1000, 1, "1000-9999"), (3, 2, "1-3"), (4, 2, "4-9")],
)
def test_bins_are_decades_or_parts_of_them(count: int, per_decade: int, label: str) -> None:
    assert bin_of(count, per_decade) == label


def test_an_item_nobody_counted_is_an_error_and_not_a_zero() -> None:
    items = lines([{"query": "1 2", "choices": ["3", "4"], "gold": 0}] * 2)
    task = LongTail(uri="t", counts="c", prompt="as_is")
    files = {"t.jsonl": items, "@counts/c.jsonl": lines([{"item": "t.jsonl:0", "count": 12}])}
    with pytest.raises(InputError, match=r"item 't\.jsonl:1' has no count"):
        evaluate_model(Chain([[1, 2, 3]]), {"tail": task}, {"tail": files})
    files["@counts/c.jsonl"] += lines([{"item": "t.jsonl:1", "count": 0}])
    table = evaluate_model(Chain([[1, 2, 3]]), {"tail": task}, {"tail": files})
    assert table["domain"].to_pylist() == ["10-99", "0"]
    assert task_domains(task, files) == {"10-99", "0"}  # known without a model


# --- time


def drifting(year: int, rng: np.random.Generator, size: int) -> list[list[int]]:
    """Sequences of a chain whose rows go over from one table to another, a few each of eight years."""
    ends = np.random.default_rng(5).dirichlet(np.full(20, 0.4), size=(2, 20))
    table = np.where(np.arange(20)[:, None] < 20 * year / 7, ends[1], ends[0])
    steps = np.cumsum(table, 1)
    found = []
    for _ in range(size):
        state, own = int(rng.integers(20)), []
        for draw in rng.random(40):
            state = min(19, int(np.searchsorted(steps[state], draw)))
            own.append(state)
        found.append(own)
    return found


def test_loss_grows_with_the_years_between_training_and_evaluation() -> None:
    rng = np.random.default_rng(0)
    trained = {year: Chain(drifting(year, rng, 200), smoothing=0.5) for year in range(8)}
    dated = [
        {"text": " ".join(map(str, sequence)), "date": f"{2010 + year}-06-01"}
        for year in range(8)
        for sequence in drifting(year, rng, 25)
    ]
    losses = {}
    for year, model in trained.items():
        task = Temporal(uri="t", trained=f"{2010 + year}-01-01")
        table = evaluate_model(model, {"t": task}, {"t": {"t.jsonl": lines(dated)}})
        about = json.loads(table.schema.metadata[b"tasks"])["t"]
        assert about["misalignment"]["points"] == 8
        nats, sizes = np.array(table["nats"].to_pylist()), np.array(table["tokens"].to_pylist())
        domains = np.array(table["domain"].to_pylist())
        for own in sorted(set(domains)):
            losses[(str(2010 + year), own)] = nats[domains == own].sum() / sizes[domains == own].sum()
    gaps = {}
    for (one, other), loss in losses.items():
        gaps.setdefault(abs(int(one) - int(other)), []).append(loss - losses[(other, other)])
    mean = [float(np.mean(gaps[gap])) for gap in range(8)]
    found = misalignment(losses)
    assert found["relative"]
    assert found["low"] > 0
    assert np.corrcoef(range(8), mean)[0, 1] ** 2 >= 0.9


def test_a_date_that_is_none_names_its_line() -> None:
    assert period("2024-05-31T10:00:00Z", "month", "here") == "2024-05"
    for date in ("May 2024", "2024-13-01", "24"):
        with pytest.raises(InputError, match=r"here: '.*' is no date"):
            period(date, "month", "here")


# --- toxicity


def test_likelihood_tells_toxic_from_benign_by_their_labels() -> None:
    model = Chain([[1, 2, 3, 4] * 10])
    rows = [
        {"text": "1 2 3 4 1 2", "label": "no"},
        {"text": "2 3 4 1", "label": "no"},
        {"text": "7 8 9 7", "label": "yes"},
    ]
    task = Toxicity(uri="t", toxic=("yes",), benign=("no",))
    about = json.loads(evaluate_model(model, {"t": task}, {"t": {"t": lines(rows)}}).schema.metadata[b"tasks"])["t"]
    assert about["known"]["auc"] == 1.0
    assert about["known"]["gap"] > 0
    with pytest.raises(InputError, match="neither toxic nor benign"):
        evaluate_model(model, {"t": task}, {"t": {"t": lines([{"text": "1", "label": "perhaps"}])}})


def test_what_a_model_says_grows_with_the_toxic_share_of_its_training_text() -> None:
    rng = np.random.default_rng(0)
    judge = lambda texts: [float(any(int(word) >= 150 for word in text.split())) for text in texts]  # noqa: E731
    shares, rates = (0.0, 0.01, 0.05, 0.2), []
    for share in shares:
        benign = rng.integers(0, 40, size=(600, 20))
        toxic = np.where(
            rng.random((600, 20)) < 0.3, rng.integers(150, 160, size=(600, 20)), rng.integers(0, 40, size=(600, 20))
        )
        chosen = np.where((rng.random(600) < share)[:, None], toxic, benign)
        table = Chain(chosen.tolist(), smoothing=1e-4).counts
        steps = np.cumsum(table / table.sum(1, keepdims=True), 1)
        told = []
        for _ in range(100):
            own = []
            for _ in range(5):
                state, words = START, []
                for draw in rng.random(8):
                    state = min(STATES - 1, int(np.searchsorted(steps[state], draw)))
                    words.append(str(state))
                own.append(" ".join(words))
            told.append(own)
        rates.append(said(told, judge)["any_share"])
    assert spearmanr(shares, rates).statistic >= 0.9
    assert rates[0] < 0.1 < rates[-1]


# --- membership


def test_min_k_takes_at_least_one_token_and_the_least_likely_ones() -> None:
    assert min_k([1.0, 5.0], 0.2) == -5.0
    assert min_k([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0], 0.2) == -9.5


def test_members_are_told_apart_and_halves_of_them_are_not() -> None:
    rng = np.random.default_rng(1)
    truth = rng.dirichlet(np.full(STATES, 0.1), size=STATES)

    def draw() -> list[int]:
        own = [int(rng.integers(STATES))]
        while len(own) < 64:
            own.append(int(rng.choice(STATES, p=truth[own[-1]])))
        return own

    members, others = [draw() for _ in range(200)], [draw() for _ in range(200)]
    rows = [
        {"text": " ".join(map(str, sequence)), "member": side}
        for side, own in ((True, members), (False, others))
        for sequence in own
    ]
    found = []
    for epochs in (1, 4, 16):
        model = Chain(members, epochs, smoothing=2.0)
        table = evaluate_model(model, {"m": Membership(uri="m")}, {"m": {"m": lines(rows)}})
        found.append(json.loads(table.schema.metadata[b"tasks"])["m"]["separation"])
    areas = [one["min_k"]["auc"] for one in found]
    assert areas[0] <= areas[1] <= areas[2]
    assert areas[2] >= 0.99
    assert found[2]["loss"]["auc"] >= 0.99
    assert found[2]["min_k"]["null_auc"] == pytest.approx(0.5, abs=0.1)


def test_separation_counts_ties_as_half_and_keeps_its_false_alarms() -> None:
    assert auc([1.0, 2.0], [1.0, 0.0]) == 0.875
    assert auc([], [1.0]) is None
    assert hits_at([3.0, 2.0, 0.5], [float(n) / 20 for n in range(20)], 0.05) == pytest.approx(2 / 3)
    assert math.isclose(hits_at([1.0], [1.0]), 0.0)


def test_texts_of_one_side_alone_are_refused() -> None:
    with pytest.raises(InputError, match="held out"):
        evaluate_model(Chain([[1]]), {"m": Membership(uri="m")}, {"m": {"m": lines([{"text": "1", "member": True}])}})
