"""Training with shares that change: whose turn it is, each method on a real model, and runs that were stopped."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.core.errors import FactoryError
from factory.mixing.simplex import uniform
from factory.storage.tokens import TokenFile, TokenWriter
from factory.training.domains import DomainStreams, Turns
from factory.training.online import train_online
from factory.training.proxy import reproducible_part
from factory.training.scales import SCALES
from factory.training.tokenizer import train_tokenizer

TINY = replace(
    SCALES["nano"],
    name="tiny",
    width=32,
    layers=2,
    heads=2,
    hidden=64,
    context=16,
    batch=6,
    warmup_steps=2,
    peak_lr=1e-2,
)
NAMES = ("cycle", "noise", "table")
SYMBOLS = 32
METHODS = {
    "fixed": {},
    "skill_it": {"rounds": 4, "graph_steps": 3, "held_out": 4},
    "doremi": {},
    "dga": {"every": 5, "target": {"table": 1.0}, "batches": 1, "held_out": 4},
    "aioli": {"every": 10, "sweeps": 1, "probe_steps": 2, "held_out": 4},
}


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer(["a small text", "another one"], vocab_size=300, path=path)
    return path


def chain(table, length, random):
    ids, uniform_draws = np.empty(length, dtype=np.int64), random.random(length)
    ids[0] = random.integers(SYMBOLS)
    cumulative = table.cumsum(axis=1)
    for place in range(1, length):
        ids[place] = min(SYMBOLS - 1, int((uniform_draws[place] >= cumulative[ids[place - 1]]).sum()))
    return ids


@pytest.fixture(scope="session")
def pool(tmp_path_factory):
    """45 documents of 100 tokens: a cycle, uniform noise and a random table, five symbols a domain for all to share."""
    prefix = tmp_path_factory.mktemp("pool") / "part"
    random = np.random.default_rng(0)
    tables = [
        np.roll(np.eye(SYMBOLS), 1, axis=1),
        np.full((SYMBOLS, SYMBOLS), 1 / SYMBOLS),
        random.dirichlet(np.full(SYMBOLS, 0.1), SYMBOLS),
    ]
    domains = np.arange(45) % 3
    with TokenWriter(prefix, "uint16") as writer:
        for domain in domains.tolist():
            writer.append(chain(tables[domain], 100, random), [100])
    return prefix, domains


@pytest.fixture(scope="session")
def reference(tmp_path_factory, tokenizer, pool):
    return train(tmp_path_factory.mktemp("reference"), tokenizer, pool, "fixed", steps=60) / "model"


@pytest.fixture
def online(tmp_path, tokenizer, pool, reference):
    def run(method, name="run", **changes):
        given = {"reference": reference} if method == "doremi" else {}
        train(tmp_path / name, tokenizer, pool, method, **(given | changes))
        return tmp_path / name

    return run


def train(out, tokenizer, pool, method, *, steps=30, options=None, **changes):
    asked = {"settings": METHODS[method] if options is None else options, "seed": 1, "device": "cpu", "out_dir": out}
    asked |= {"tokens": pool[0], "domains": pool[1], "names": NAMES, "method": method, "tokenizer_path": tokenizer}
    asked |= {"scale": TINY, "total_tokens": steps * TINY.step_tokens}
    RECORDS[Path(out)] = train_online(**(asked | changes))
    return Path(out)


RECORDS = {}


class Killed(BaseException):
    """Ends a run the way a signal would: nothing of ours catches it."""


def kill_at(step):
    def report(message):
        if message.get("step") == step and message["event"] == "step":
            raise Killed

    return report


# --- turns


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8).filter(sum), st.lists(st.integers(1, 9), max_size=30))
def test_what_was_read_is_within_one_sequence_of_what_was_asked(weights, batches):
    turns = Turns(len(weights))
    for size in batches:
        turns.take(np.asarray(weights) / sum(weights), size)
        assert np.abs(turns.given - turns.asked).max() < 1.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.floats(0.01, 1.0), min_size=4, max_size=4), max_size=30))
def test_no_domain_is_given_a_sequence_too_many_when_shares_change(rounds):
    turns = Turns(4)
    for weights in rounds:
        turns.take(np.asarray(weights) / sum(weights), 5)
        assert (turns.given - turns.asked).max() < 1.0
        assert turns.given.sum() == round(turns.asked.sum())


def test_taking_turns_at_once_or_one_by_one_is_the_same():
    one, other = Turns(3), Turns(3)
    shares = [0.5, 0.3, 0.2]
    assert one.take(shares, 12).tolist() == [int(other.take(shares, 1)[0]) for _ in range(12)]


def test_shares_that_do_not_sum_to_1_are_refused():
    with pytest.raises(FactoryError, match="2 shares that sum to 1 are needed"):
        Turns(2).take([0.5, 0.6], 1)


def test_an_epoch_reads_every_sequence_of_its_domain_once_and_none_that_is_held_out(pool):
    streams = DomainStreams(TokenFile(pool[0]), pool[1], NAMES, context=16, seed=3, held_out=5)
    epoch = streams.trained_on(2)
    rows = [tuple(row) for row in streams.read(2, 0, 2 * epoch).tolist()]
    assert sorted(rows[:epoch]) == sorted(rows[epoch:])
    assert rows[:epoch] != rows[epoch:]
    assert not {tuple(row) for row in streams.held_out(2).tolist()} & set(rows)
    assert np.array_equal(streams.read(2, 7, 5), streams.read(2, 0, 12)[7:])


def test_a_domain_without_a_sequence_is_refused_with_what_it_has(pool):
    with pytest.raises(FactoryError, match="domain 'empty' has 0 tokens"):
        DomainStreams(TokenFile(pool[0]), pool[1], [*NAMES, "empty"], context=16, seed=3, held_out=5)


# --- methods on a real model


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_stopped_ends_with_the_same_bits(online, method):
    whole = RECORDS[online(method, "whole", checkpoint_every=7)]
    with pytest.raises(Killed):
        online(method, "stopped", checkpoint_every=7, report=kill_at(17))
    again = RECORDS[online(method, "stopped", checkpoint_every=7)]
    assert reproducible_part(again) == reproducible_part(whole)
    assert again["model_digest"] == whole["model_digest"]
    assert abs(sum(again["weights"].values()) - 1) < 1e-9
    assert min(again["weights"].values()) >= 0


@pytest.mark.parametrize("method", ["fixed", "skill_it", "dga"])
def test_the_sequences_read_are_those_the_trajectory_asked_for(online, method):
    record = RECORDS[online(method)]
    starts = [entry["step"] for entry in record["trajectory"]] + [record["steps"]]
    asked = sum(
        np.asarray(entry["shares"]) * (after - before) * TINY.batch
        for entry, before, after in zip(record["trajectory"], starts[:-1], starts[1:], strict=True)
    )
    given = [record["domains"][name]["sequences"] for name in NAMES]
    assert np.abs(np.asarray(given) - asked).max() <= 1.0
    assert sum(given) * TINY.context == record["tokens_seen"] == record["accounting"]["training_tokens"]


def test_doremi_leaves_noise_and_plain_dro_runs_after_it(online):
    weights = RECORDS[online("doremi", steps=60)]["weights"]
    plain = RECORDS[online("doremi", "plain", steps=60, options={"reference": False, "eta": 0.1}, reference=None)][
        "weights"
    ]
    assert weights["noise"] < 1 / 3 < plain["noise"]
    assert weights["noise"] < weights["table"]


def test_gradient_alignment_finds_the_domain_of_the_target(online):
    options = METHODS["dga"] | {"beta": 0.5}
    full = RECORDS[online("dga", steps=60, options=options)]
    last = RECORDS[online("dga", "last", steps=60, options=options | {"gradients": "last"})]
    for record in (full, last):
        assert max(record["weights"], key=record["weights"].get) == "table"
        assert record["weights"]["table"] > 0.6
    assert full["accounting"]["gradients_tokens"] > 0


def test_a_token_file_can_be_the_target(online, pool, tmp_path):
    file = TokenFile(pool[0])
    with TokenWriter(tmp_path / "target", "uint16") as writer:
        for document in range(0, 45, 3):
            writer.append(file.document(document), [100])
    options = {**METHODS["dga"], "target": None, "beta": 0.5}
    record = RECORDS[online("dga", steps=60, options=options, target=tmp_path / "target")]
    assert max(record["weights"], key=record["weights"].get) == "cycle"


def test_aioli_probes_are_accounted_for_and_not_part_of_the_mixture(online, reference):
    options = {**METHODS["aioli"], "every": 20, "eta": 2.0, "sweeps": 2}
    record = RECORDS[online("aioli", steps=80, options=options, init=reference)]
    assert record["accounting"]["probe_tokens"] == 4 * 3 * 2 * 2 * TINY.step_tokens
    assert record["weights"]["noise"] < min(record["weights"]["cycle"], record["weights"]["table"])
    laws = [entry["law"] for entry in record["trajectory"] if "law" in entry]
    assert len(laws) == 4
    assert np.shape(laws[0]) == (3, 3)


def test_probes_longer_than_their_round_are_refused(online):
    with pytest.raises(FactoryError, match=r"probes of a round are 12 steps .* and a round has 10"):
        online("aioli", options={"every": 10, "sweeps": 2, "probe_steps": 2})


def test_the_graph_is_estimated_by_short_runs_that_leave_the_model_alone(online):
    record = RECORDS[online("skill_it")]
    graph = np.asarray(record["trajectory"][0]["graph"])
    assert np.diagonal(graph).tolist() == [1.0, 1.0, 1.0]
    assert (graph >= 0).all()
    assert record["accounting"]["short_runs_tokens"] == (3 + 3) * 3 * TINY.step_tokens
    given = RECORDS[online("skill_it", "given", options={**METHODS["skill_it"], "graph": graph.tolist()})]
    assert given["model_digest"] == record["model_digest"]


def test_equal_weights_are_read_alike_and_a_run_can_start_from_a_checkpoint(online, reference):
    record = RECORDS[online("fixed", init=reference, start={"cycle": 0.5, "noise": 0.0, "table": 0.5})]
    assert [record["domains"][name]["sequences"] for name in NAMES] == [90, 0, 90]
    assert record["domains"]["noise"]["loss"] is None
    assert record["first_loss"] < 3.5 < RECORDS[online("fixed", "anew")]["first_loss"]
    assert record["weights"] == {"cycle": 0.5, "noise": 0.0, "table": 0.5}


def test_what_a_method_lacks_is_said(online):
    for method, changes, message in (
        ("doremi", {"reference": None}, "a reference model is needed"),
        ("dga", {"options": {"target": {"tables": 1.0}}}, "a target is needed: a token file, or shares of domains"),
        ("fixed", {"options": {"eta": 1.0}}, "unknown key 'eta'"),
        ("fixed", {"start": {"cycle": 0.4}}, "sum to 0.4"),
        ("skill_it", {"options": {"graph": [[1.0]]}}, "a graph of 3 x 3 is needed"),
    ):
        with pytest.raises(FactoryError, match=message):
            online(method, message[:5], **changes)
    with pytest.raises(FactoryError, match="No online method is named 'skill'"):
        online("skill", "none", options={})


def test_uniform_start_is_what_no_start_means(online):
    even = dict(zip(NAMES, uniform(3).tolist(), strict=True))
    assert RECORDS[online("fixed")]["model_digest"] == RECORDS[online("fixed", "even", start=even)]["model_digest"]
