"""Runs that are killed, shared out, averaged or begun from a model, on W8; and the same logits as `transformers` gives."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from factory.core.errors import FactoryError, InputError
from factory.training.distributed import launch
from factory.training.proxy import reproducible_part
from tests.training_runs import SMALL, prepare, run

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("w8"))


@pytest.fixture(scope="session")
def base(world, tmp_path_factory):
    """A finished run of 20 steps: its record and its folder."""
    out = tmp_path_factory.mktemp("base")
    return run(world, out), out


@pytest.fixture
def path(monkeypatch):
    """Other processes find the tests."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")]))


def losses(record):
    return [loss for _, _, loss in record["loss_curve"]]


# --- the model


def shapes():
    from factory.training.model import build_model, model_config

    for changes in ({}, {"qk_norm": True, "tied": False}, {"kv_heads": 1, "head_width": 24}):
        scale = replace(SMALL, init_std=0.2, **changes)
        yield build_model(model_config(scale, vocabulary=400, bos_id=None, eos_id=0), seed=1)


def test_logits_are_those_of_transformers():
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    ids = torch.arange(48).reshape(3, 16) * 7 % 400
    for model in shapes():
        theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**model.config.values), dtype=torch.float32)
        ours = dict(model.named_parameters())
        with torch.no_grad():
            for name, parameter in theirs.named_parameters():
                parameter.copy_(ours[name])
            difference = model(ids) - theirs(ids).logits
        assert float(difference.abs().max()) <= 1e-5


def test_the_head_and_its_loss_have_the_gradients_of_the_formula_whatever_counts():
    import torch

    ids, targets = torch.arange(48).reshape(3, 16) % 400, torch.arange(48).reshape(3, 16) * 5 % 400
    model = next(shapes())
    for counted in (None, torch.arange(48).reshape(3, 16) % 3 > 0):
        model.zero_grad()
        nats, objective = model(ids, targets, counted=counted, z_loss=0.01)
        objective.backward()
        ours = [parameter.grad.clone() for parameter in model.parameters()]
        model.zero_grad()
        logits = model(ids).flatten(0, 1)
        normaliser = logits.logsumexp(1)
        plain = normaliser - logits.gather(1, targets.reshape(-1, 1))[:, 0]
        weight = torch.ones(48) if counted is None else counted.flatten().float()
        (weight * (plain + 0.01 * normaliser.square())).sum().backward()
        assert float(nats) == pytest.approx(float((weight * plain).sum().detach()), rel=1e-6)
        for one, parameter in zip(ours, model.parameters(), strict=True):
            torch.testing.assert_close(one, parameter.grad, atol=1e-5, rtol=1e-4)


def test_a_document_packed_with_others_is_predicted_as_if_alone():
    import torch

    ids = torch.arange(24).reshape(1, 24) * 11 % 400
    documents = torch.tensor([[0] * 5 + [1] * 12 + [2] * 7])
    for model in shapes():
        with torch.no_grad():
            packed = model(ids, documents=documents)
            alone = torch.cat([model(ids[:, a:b]) for a, b in ((0, 5), (5, 17), (17, 24))], dim=1)
        assert float((packed - alone).abs().max()) <= 1e-5


def test_a_model_loads_in_lm_eval_unchanged_and_scores_the_same(base, world):
    lm_eval = pytest.importorskip("lm_eval.models.huggingface")
    import torch

    from factory.training.model import read_model
    from factory.training.tokenizer import Encoder

    harness = lm_eval.HFLM(pretrained=str(base[1] / "model"), device="cpu", dtype="float32", max_length=16)
    ids = list(Encoder(world / "tokenizer.json")._tokenizer.encode("def compute_x").ids)
    theirs = harness._loglikelihood_tokens([(("", ""), ids[:1], ids[1:])], disable_tqdm=True)[0][0]
    with torch.no_grad():
        logits = read_model(base[1] / "model")(torch.tensor([ids[:-1]]))
    ours = logits.log_softmax(-1)[0].gather(1, torch.tensor(ids[1:])[:, None]).sum()
    assert theirs == pytest.approx(float(ours), abs=1e-5)


def test_a_first_loss_is_that_of_guessing(base):
    assert base[0]["first_loss"] == pytest.approx(math.log(384), abs=0.1)


# --- learning


def test_kinds_of_text_are_learnt_in_the_order_of_their_ease(world, tmp_path):
    """W8: nobody can do better than 5.83 bits for a byte of noise, and what is mostly template is easiest."""
    import pyarrow as pa
    import torch

    from factory.training.model import read_model
    from factory.training.tokenizer import Encoder
    from tests.worlds.w8_tiny_text import GENRES, documents

    record = run(world, tmp_path / "run", steps=150, scale=replace(SMALL, context=32))
    assert record["loss"] < record["first_loss"] - 1.5
    model, encoder, bits = read_model(tmp_path / "run" / "model"), Encoder(world / "tokenizer.json"), {}
    for genre in GENRES:
        text = "".join(documents(genre, 20, seed=9))
        ids = encoder.encode(pa.array([text]))[0].astype(np.int64)
        rows = torch.from_numpy(ids[: len(ids) // 33 * 33].reshape(-1, 33))
        with torch.no_grad():
            nats, _ = model(rows[:, :-1], rows[:, 1:])
        bits[genre] = float(nats) / math.log(2) / len(text.encode()) * len(ids) / (rows.numel() - len(rows))
    assert bits["code"] < bits["wiki"] < bits["dialogue"] < bits["noise"] - 1
    assert math.log2(57) <= bits["noise"] < math.log2(57) + 0.5


# --- one run, however it is computed


@pytest.mark.parametrize(
    "machine", [{"recompute": True}, {"checkpoint_every": 3}], ids=["recomputed", "with checkpoints"]
)
def test_what_saves_memory_or_keeps_checkpoints_changes_no_bit(world, tmp_path, base, machine):
    assert reproducible_part(run(world, tmp_path / "run", machine=machine)) == reproducible_part(base[0])


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_parts_of_a_batch_weigh_what_they_have_of_its_targets(world, tmp_path, masked):
    whole = run(world, tmp_path / "whole", masked=masked)
    parts = run(world, tmp_path / "parts", masked=masked, machine={"micro_batch": 3})
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-5)
    assert parts["consumption_digest"] == whole["consumption_digest"]


def test_two_processes_train_what_one_does(world, tmp_path, path):
    """FSDP over gloo, 50 steps of one global batch, with unequal numbers of counted targets in the processes."""
    scale = {"peak_lr": 3e-3}  # at three times that, last bits grow to 1e-4 within 50 steps, in one process too
    one = run(world, tmp_path / "one", steps=50, masked=True, scale=replace(SMALL, **scale))
    asked = {"folder": str(world), "out": str(tmp_path / "two"), "steps": 50, "masked": True, "scale": scale}
    told = []
    two = launch("tests.training_runs:run_named", asked, 2, told.append)
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    assert two["consumption_digest"] == one["consumption_digest"]
    assert (two["processes"], [message["step"] for message in told]) == (2, list(range(1, 51)))
    assert (two["spec"], two["targets_counted"]) == (one["spec"], one["targets_counted"])


def test_a_run_of_two_processes_goes_on_in_one_and_averages_alike(world, tmp_path, path):
    scale = {"schedule": "linear", "peak_lr": 3e-3}
    asked = {"folder": str(world), "out": str(tmp_path / "run"), "scale": scale, "average": 3, "kill": 12}
    asked |= {"machine": {"checkpoint_every": 5}}
    with pytest.raises(FactoryError, match="Run again to go on from the last checkpoint"):
        launch("tests.training_runs:run_named", asked, 2)
    seen = []
    changed = replace(SMALL, **scale)
    resumed = run(world, tmp_path / "run", scale=changed, average=3, report=seen.append)
    assert seen[0] == {"event": "resumed", "step": 10}
    undisturbed = run(world, tmp_path / "undisturbed", scale=changed, average=3)
    assert losses(resumed) == pytest.approx(losses(undisturbed), abs=1e-5)


def test_a_process_that_fails_ends_the_others_with_its_own_message(path):
    begun = time.monotonic()
    with pytest.raises(FactoryError, match="process 1 has no tokens"):
        launch("tests.training_runs:fail", {}, 2)
    assert time.monotonic() - begun < 60


def test_bfloat16_ends_within_one_percent_of_float32(world, tmp_path, base):
    record = run(world, tmp_path / "run", steps=60, precision="bfloat16")
    assert record["loss"] == pytest.approx(run(world, tmp_path / "exact", steps=60)["loss"], rel=0.01)
    with pytest.raises(FactoryError, match="precision differ"):
        run(world, tmp_path / "run", steps=60)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler warns about its own use of torch
def test_compiled_blocks_train_what_plain_ones_do(world, tmp_path, base):
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    compiled = run(world, tmp_path / "run", machine={"compile": True})
    assert losses(compiled) == pytest.approx(losses(base[0]), abs=1e-4)


# --- killed


@pytest.mark.parametrize("step", [1, 12, 19])
def test_a_run_killed_by_the_system_ends_with_the_same_bits(world, tmp_path, path, base, step):
    asked = {"folder": str(world), "out": str(tmp_path / "run"), "kill": step, "machine": {"checkpoint_every": 5}}
    command = [sys.executable, "-m", "tests.training_runs", json.dumps(asked)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9
    assert reproducible_part(run(world, tmp_path / "run")) == reproducible_part(base[0])


def test_an_average_and_annealed_models_survive_a_kill(world, tmp_path, path):
    scale = {"schedule": "wsd_s", "anneals": 2, "ema": 0.9}
    asked = {"folder": str(world), "out": str(tmp_path / "run"), "scale": scale, "kill": 13}
    command = [sys.executable, "-m", "tests.training_runs", json.dumps({**asked, "machine": {"checkpoint_every": 6}})]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9
    resumed = run(world, tmp_path / "run", scale=replace(SMALL, **scale))
    undisturbed = run(world, tmp_path / "other", scale=replace(SMALL, **scale))
    assert reproducible_part(resumed) == reproducible_part(undisturbed)
    weights = [tmp_path / name / "model" / "annealed-0000000010.safetensors" for name in ("run", "other")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_an_annealed_model_is_that_of_a_run_of_its_length(world, tmp_path):
    """The order of the data differs with the length, so the same ten batches are given to both."""
    from safetensors.torch import load_file

    from factory.training.averaging import Average
    from factory.training.loop import Progress, make_optimizer, reproducible, train
    from factory.training.model import build_model, model_config

    class Fixed:
        tokens, digest = 0, "fixed"

        def __init__(self, steps):
            self.steps, self.tokens = steps, steps * SMALL.step_tokens

        def batch(self, step, *, rank=0, world=1):
            from factory.training.order import Batch

            return Batch(np.random.default_rng(step).integers(0, 384, (8, 17)))

    def weights(schedule, steps):
        scale = replace(SMALL, schedule=schedule, anneals=2)
        model = build_model(model_config(scale, vocabulary=384, bos_id=None, eos_id=0), seed=1)
        kept = Average(model, at=[10])  # a snapshot of one step is the weights after it
        with reproducible("cpu", 1, 1):
            train(model, make_optimizer(model, scale), Fixed(steps), scale, Progress(), device="cpu", average=kept)
        return kept.tensors()

    early, whole = weights("wsd_s", 20), weights("wsd", 10)
    assert all(bool((early[name] == whole[name]).all()) for name in whole)
    record = run(world, tmp_path / "run", scale=replace(SMALL, schedule="wsd_s", anneals=2))
    stored = load_file(tmp_path / "run" / "model" / "annealed-0000000010.safetensors")
    assert (record["valid"], set(stored)) == (True, set(whole))


# --- averages


def test_an_average_is_the_mean_of_its_snapshots_and_equal_ones_average_to_themselves():
    import torch

    from factory.training.averaging import Average

    model = torch.nn.Linear(5, 5, bias=False)
    mean, seen = Average(model, at=[1, 2, 3]), []
    for step in (1, 2, 3, 4):
        with torch.no_grad():
            model.weight.copy_(torch.randn(5, 5, generator=torch.Generator().manual_seed(step)))
        mean.after(step)
        seen.append(model.weight.detach().clone())
    torch.testing.assert_close(mean.tensors()["weight"], torch.stack(seen[:3]).mean(0))
    still = Average(model, at=[1, 2, 3])
    for step in (1, 2, 3):
        still.after(step)
    assert bool((still.tensors()["weight"] == model.weight).all())


@pytest.mark.parametrize(
    "changes", [{"average": 3, "schedule": "linear"}, {"ema": 0.9}], ids=["uniform", "exponential"]
)
def test_an_averaged_model_is_another_and_says_so(world, tmp_path, base, changes):
    average = changes.pop("average", 1)
    record = run(world, tmp_path / "run", scale=replace(SMALL, **changes), average=average)
    assert record["valid"]
    assert record["model_digest"] != base[0]["model_digest"]
    assert record["average"] == {
        "snapshots_after": [18, 19, 20] if average > 1 else [],
        "ema": changes.get("ema", 0.0),
    }


def test_two_kinds_of_average_at_once_are_refused(world, tmp_path):
    with pytest.raises(FactoryError, match=r"average 3 with ema 0\.9 cannot be"):
        run(world, tmp_path / "run", scale=replace(SMALL, ema=0.9), average=3)


# --- beginning from a model


def test_a_run_begun_from_a_model_starts_where_it_ended_with_fresh_moments(world, tmp_path, base):
    scale = replace(SMALL, schedule="rewarm", width=64)  # its shape is the model's
    record = run(world, tmp_path / "run", scale=scale, init=base[1] / "model", seed=2)
    assert record["first_loss"] < base[0]["first_loss"] - 0.5
    assert record["spec"]["init"] == base[0]["model_digest"]
    assert record["parameters"] == base[0]["parameters"]
    assert (record["optimizer"], record["spec"]["scale"]["width"]) == ("fresh", 32)


def test_a_model_saved_by_transformers_can_be_gone_on_from(world, tmp_path, base):
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(base[1] / "model").save_pretrained(tmp_path / "init", max_shard_size="60KB")
    shutil.copy(world / "tokenizer.json", tmp_path / "init")
    record = run(world, tmp_path / "run", init=tmp_path / "init", seed=2)
    assert record["spec"]["init"] == base[0]["model_digest"]


def truncated(folder, name="model.safetensors"):
    os.truncate(folder / name, (folder / name).stat().st_size // 2)


def without_sums(folder):
    (folder / "checksums.json").unlink()
    truncated(folder)


def not_a_number(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = math.nan
    save_file(weights, folder / "model.safetensors")
    (folder / "checksums.json").unlink()


def other_words(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    words = tokenizer["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    (folder / "checksums.json").unlink()


def other_kind(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    (folder / "checksums.json").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncated, r"is damaged: model\.safetensors is not what was written"),
        (without_sums, r"is damaged or truncated"),
        (not_a_number, r"model\.norm\.weight holds values that are no numbers"),
        (other_words, r"was trained with another tokenizer: 2 of 384"),
        (other_kind, r"A model of type 'gpt2' cannot be trained on: llama and qwen3 can"),
        (lambda folder: (folder / "config.json").unlink(), r"is damaged: config\.json is missing"),
    ],
)
def test_a_model_that_cannot_be_gone_on_from_is_refused_before_a_step(world, tmp_path, base, damage, said):
    shutil.copytree(base[1] / "model", tmp_path / "init")
    damage(tmp_path / "init")
    with pytest.raises(InputError, match=said):
        run(world, tmp_path / "run", init=tmp_path / "init")
    assert list((tmp_path / "run").iterdir()) == []


# --- a mixture of a pool


def test_a_trial_reads_every_domain_as_often_as_it_says_and_more_of_one_contains_less_of_it():
    import pyarrow as pa

    from factory.recipes.steps.proxies import trial_repeats

    names = ["a", "b", "c"] * 200
    lengths = np.random.default_rng(0).integers(1, 50, 600)
    columns = {"doc_id": [f"d{number}" for number in range(600)], "domain": names, "length": lengths}
    index = pa.table({**columns, "repeats": pa.array(np.ones(600), pa.uint32())})
    owner = np.array(names)
    few, many = (trial_repeats(index, {"a": epochs, "b": 2.5}, seed=7) for epochs in (0.3, 0.7))
    for counts, epochs in ((few, 0.3), (many, 0.7)):
        read = {name: int((counts * lengths)[owner == name].sum()) for name in "abc"}
        assert 0 <= read["a"] - epochs * lengths[owner == "a"].sum() < 50
        assert 0 <= read["b"] - 2.5 * lengths[owner == "b"].sum() < 50
        assert read["c"] == 0
    assert (few <= many).all()
    shuffled = np.random.default_rng(1).permutation(600)
    assert (trial_repeats(index.take(pa.array(shuffled)), {"a": 0.3, "b": 2.5}, seed=7) == few[shuffled]).all()
    with pytest.raises(FactoryError, match=r"The pool has no domain 'z'\. It has a, b, c"):
        trial_repeats(index, {"z": 1.0}, seed=7)


def test_trials_of_other_seeds_read_other_documents_and_as_much():
    import pyarrow as pa

    from factory.recipes.steps.proxies import draw_seed, trial_repeats

    columns = {"doc_id": [f"d{number}" for number in range(600)], "domain": ["a"] * 600, "length": np.full(600, 10)}
    index = pa.table({**columns, "repeats": pa.array(np.ones(600), pa.uint32())})
    first, second, again = (trial_repeats(index, {"a": 0.1}, draw_seed(3, number)) for number in (0, 1, 1))
    assert first.sum() == second.sum() == 60
    assert (first & second).sum() < 20
    assert (second == again).all()
    assert (first == trial_repeats(index, {"a": 0.1}, 3)).all()


def test_a_trial_that_matches_repetition_reads_as_much_from_less_and_repeats_it_as_the_target_would():
    import pyarrow as pa

    from factory.recipes.steps.proxies import trial_repeats

    names = np.array(["a", "b"] * 500)
    lengths = np.random.default_rng(0).integers(1, 50, 1000)
    columns = {"doc_id": [f"d{number}" for number in range(1000)], "domain": names, "length": lengths}
    index = pa.table({**columns, "repeats": pa.array(np.ones(1000), pa.uint32())})
    # The target reads a 6 times and b 1.5 times; the trial is a tenth of it.
    counts = trial_repeats(index, {"a": 0.6, "b": 0.15}, seed=7, seen=0.1)
    for name, target in (("a", 6.0), ("b", 1.5)):
        own = names == name
        whole, read = lengths[own].sum(), (counts * lengths)[own].sum()
        seen = lengths[own & (counts > 0)].sum()
        assert abs(read - target * whole / 10) < 50
        assert abs(seen - whole / 10) < 50
        assert read / seen == pytest.approx(target, rel=0.05)
    assert counts[names == "a"].max() <= 6
    assert (
        trial_repeats(index, {"a": 0.6, "b": 0.15}, seed=7, seen=1.0)
        == trial_repeats(index, {"a": 0.6, "b": 0.15}, seed=7)
    ).all()


# --- records


def test_a_record_has_what_it_cost(world, tmp_path, base):
    machine = {"usd_per_hour": 2.0, "peak_flops": 1e11}
    record = run(world, tmp_path / "run", machine=machine)
    assert record["mfu"] == pytest.approx(record["flops"] / record["seconds"] / 1e11)
    assert record["dollars"] == pytest.approx(record["seconds"] / 1800)
    assert record["flops_6nd"] == 6 * record["parameters"]["total"] * record["tokens_seen"]
    assert record["tokens_per_s"] == record["tokens_seen"] / record["seconds"]
    assert (base[0]["mfu"], base[0]["dollars"]) == (None, None)
    assert reproducible_part(record) == reproducible_part(base[0])
