"""Averages of models, soups, unions and ensembles: what holds, and that it does not hold for models of several seeds."""

import itertools
import json
import math
import shutil

import numpy as np
import pytest

from factory.core.errors import FactoryError, InputError
from factory.mixing.merging import (
    agreement,
    cached_prior,
    ensemble_nats,
    greedy_soup,
    posteriors,
    unions,
)
from tests.worlds import w1_markov_domains as markov
from tests.worlds import w4_shared_bigram as bigram


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def checkpoint(folder, seed, *, width=16, tokenizer='{"a": 0}'):
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig

    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    save_file(
        {
            "model.embed_tokens.weight": torch.randn(8, width, generator=generator),
            "half": torch.randn(4, generator=generator).bfloat16(),
            "steps": torch.tensor([seed], dtype=torch.int64),
        },
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    LlamaConfig(vocab_size=8, hidden_size=width, num_hidden_layers=1, num_attention_heads=2).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer)
    return folder


def tensors(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


# --- parameter averages


def test_an_average_of_equal_checkpoints_is_equal_to_the_bit(tmp_path):
    import torch

    from factory.training.merging import merge_checkpoints

    one = checkpoint(tmp_path / "one", 1)
    for number in (2, 3, 7):
        merge_checkpoints([one] * number, tmp_path / f"of {number}")
        merged = tensors(tmp_path / f"of {number}")
        assert all(torch.equal(merged[name], tensor) for name, tensor in tensors(one).items())


def test_an_average_is_weighted_in_float32_keeps_types_and_the_first_integers(tmp_path):
    import torch

    from factory.training.merging import merge_checkpoints

    folders = [checkpoint(tmp_path / str(seed), seed) for seed in (1, 2, 3)]
    record = merge_checkpoints(folders, tmp_path / "out", weights=[0.5, 0.3, 0.2])
    merged, parts = tensors(tmp_path / "out"), [tensors(folder) for folder in folders]
    name = "model.embed_tokens.weight"
    expected = 0.5 * parts[0][name].double() + 0.3 * parts[1][name].double() + 0.2 * parts[2][name].double()
    assert torch.allclose(merged[name].double(), expected, atol=1e-6)
    assert merged["half"].dtype == torch.bfloat16
    assert merged["steps"].tolist() == [1]
    assert record["weights"] == [0.5, 0.3, 0.2]
    assert record["models"] == 3
    assert {"config.json", "tokenizer.json", "checksums.json"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_models_that_are_not_alike_are_refused_and_nothing_is_left(tmp_path):
    from factory.training.merging import merge_checkpoints

    one = checkpoint(tmp_path / "one", 1)
    wide = checkpoint(tmp_path / "wide", 1, width=32)
    words = checkpoint(tmp_path / "words", 1, tokenizer='{"b": 0}')
    pickled = checkpoint(tmp_path / "pickled", 1)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    for other, message in ((wide, "hidden_size 16 and 32"), (words, "different tokenizers")):
        with pytest.raises(FactoryError, match=message):
            merge_checkpoints([one, other], tmp_path / "out")
    with pytest.raises(InputError, match="no checkpoint in Hugging Face layout"):
        merge_checkpoints([one, pickled], tmp_path / "out")
    for weights, message in (
        ([0.5, 0.6], "sum to 1.1"),
        ([1.0], "1 weights for 2 models"),
        ([2.0, -1.0], "at least 0"),
    ):
        with pytest.raises(FactoryError, match=message):
            merge_checkpoints([one, one], tmp_path / "out", weights=weights)
    assert not (tmp_path / "out").exists()


def test_other_tensors_under_one_configuration_are_refused(tmp_path):
    from factory.training.merging import merge_checkpoints

    one, other = checkpoint(tmp_path / "one", 1), checkpoint(tmp_path / "other", 1)
    shutil.copy(checkpoint(tmp_path / "wide", 1, width=32) / "model.safetensors", other)
    with pytest.raises(FactoryError, match=r"model.embed_tokens.weight is \(8, 16"):
        merge_checkpoints([one, other], tmp_path / "out")
    json.loads((other / "config.json").read_text())


# --- soups


def test_a_greedy_soup_scores_no_worse_than_its_best_model():
    random = np.random.default_rng(0)
    for _ in range(20):
        models = {f"m{number}": random.normal(size=5) for number in range(6)}

        def score(names, models=models):
            return float(np.abs(np.mean([models[name] for name in names], axis=0)).sum())

        single = {name: score([name]) for name in models}
        chosen = greedy_soup(single, score)
        assert score(chosen) <= min(single.values())
        assert chosen[0] == min(single, key=single.get)
    assert greedy_soup({"b": 1.0, "a": 1.0}, lambda names: 2.0) == ("a",)
    with pytest.raises(FactoryError, match="at least one model"):
        greedy_soup({}, lambda names: 0.0)


# --- unions


def test_unions_are_all_or_as_many_as_asked_for_and_each_once():
    assert unions(["b", "a", "c"], (2, 3), limit=10, seed=0) == [("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]
    some = unions([str(number) for number in range(8)], (2, 4), limit=40, seed=1)
    assert len(set(some)) == 40
    assert some == unions([str(number) for number in range(8)], (2, 4), limit=40, seed=1)
    with pytest.raises(FactoryError, match="unions of 3 to 4 of 2 partitions"):
        unions(["a", "b"], (3, 4), limit=1, seed=0)


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_merged_models_rank_unions_as_training_on_them_does(rate):
    bases = bigram.make_chains(0, 4)
    random = np.random.default_rng(1)
    parts = list(np.tensordot(random.dirichlet(np.full(4, 0.5), 8), np.stack(bases), 1))
    target = np.tensordot(random.dirichlet(np.ones(4)), np.stack(bases), 1)
    seed_model = bigram.train(parts, np.full(8, 1 / 8), np.full(500, 0.5), 2)
    experts = [bigram.train([part], [1.0], np.full(200, rate), 3 + at, seed_model) for at, part in enumerate(parts)]
    subsets = unions([str(at) for at in range(8)], (2, 4), limit=40, seed=0)
    members = [[int(name) for name in subset] for subset in subsets]

    def train_union(own):
        mixture, steps = np.full(len(own), 1 / len(own)), np.full(200, rate)
        return bigram.train([parts[m] for m in own], mixture, steps, 90, seed_model)

    trained = [bigram.loss(train_union(own), target) for own in members]
    merged = [bigram.loss(np.mean([experts[m] for m in own], axis=0), target) for own in members]
    alone = [np.mean([bigram.loss(experts[m], target) for m in own]) for own in members]
    of_merged, of_alone = agreement(merged, trained)["pearson"], agreement(alone, trained)["pearson"]
    assert of_merged >= 0.95
    assert of_merged > of_alone


def test_without_convexity_experts_of_one_seed_merge_and_others_do_not():
    from tests.worlds import w4_shared_mlp as mlp

    bases = bigram.make_chains(0, 4)
    parts = mlp.make_partitions(0, 6, bases)
    target = np.tensordot(np.random.default_rng(9).dirichlet(np.ones(4)), np.stack(bases), 1)
    subsets = [own for size in (2, 3) for own in itertools.combinations(range(6), size)]
    together = [parts[list(own)].mean(axis=0) for own in subsets]
    seed_model = mlp.train(mlp.initial([0]), [parts.mean(axis=0)], steps=600, rate=3e-3, seed=1)
    merged_agreement = {}
    for rate in (3e-4, 2e-2):
        experts = mlp.train(seed_model, parts, steps=200, rate=rate, seed=2)
        trained = mlp.losses(mlp.train(seed_model, together, steps=200, rate=rate, seed=3), target)
        merged = [mlp.losses(mlp.average(experts, own), target)[0] for own in subsets]
        alone = mlp.losses(experts, target)
        merged_agreement[rate] = agreement(merged, trained)["spearman"]
        assert merged_agreement[rate] > agreement([alone[list(own)].mean() for own in subsets], trained)["spearman"]
    assert merged_agreement[3e-4] >= 0.95
    assert merged_agreement[3e-4] > merged_agreement[2e-2]
    strangers = mlp.train(mlp.initial(range(10, 16)), parts, steps=800, rate=3e-3, seed=2)
    lost = [mlp.losses(mlp.average(strangers, own), target)[0] for own in subsets]
    assert abs(agreement(lost, trained)["spearman"]) < 0.4
    assert np.mean(lost) > math.log(24) - 0.15
    assert np.mean(lost) > mlp.losses(strangers, target).mean() + 0.2


def test_agreement_is_unknown_where_nothing_varies():
    assert agreement([1.0, 1.0], [1.0, 2.0]) == {"spearman": None, "pearson": None}


# --- branch, train, merge

DOMAINS = (0, 2, 4, 5)
TRANSITIONS = 20_000
LENGTH = 128


@pytest.fixture(scope="module")
def experts():
    world, random = markov.markov_domains(0), np.random.default_rng(4)
    rows = [joint / np.maximum(joint.sum(axis=1, keepdims=True), 1e-300) for joint in world.joints]

    def table(joint):
        flat = random.multinomial(TRANSITIONS, (joint / joint.sum()).ravel()).reshape(joint.shape) + markov.SMOOTHING
        return flat / flat.sum(axis=1, keepdims=True)

    sequences = {}
    for domain in DOMAINS:
        start = world.joints[domain].sum(axis=1)
        ids = np.empty((50, LENGTH + 1), dtype=np.int64)
        ids[:, 0] = random.choice(markov.SYMBOLS, size=50, p=start / start.sum())
        for place in range(LENGTH):
            likely = rows[domain][ids[:, place]].cumsum(axis=1)
            ids[:, place + 1] = np.minimum((random.random((50, 1)) >= likely).sum(axis=1), markov.SYMBOLS - 1)
        sequences[domain] = ids
    mixed = np.mean([world.joints[domain] for domain in DOMAINS], axis=0)
    own = [table(world.joints[domain]) for domain in DOMAINS]
    return sequences, own, [table(mixed) for _ in DOMAINS], table(mixed)


def nats(tables, ids):
    return np.stack([-np.log(table[ids[:-1], ids[1:]]) for table in tables])


def test_the_posterior_finds_the_domain_and_the_ensemble_is_as_good_as_its_expert(experts):
    sequences, own, _, _ = experts
    hits, mixed, oracle = [], [], []
    for place, domain in enumerate(DOMAINS):
        for ids in sequences[domain]:
            losses = nats(own, ids)
            hits.append(posteriors(losses)[64].argmax() == place)
            mixed.append(ensemble_nats(losses).mean())
            oracle.append(losses[place].mean())
    assert np.mean(hits) >= 0.95
    assert np.mean(mixed) <= np.mean(oracle) + 0.02


def test_experts_of_random_splits_gain_nothing(experts):
    sequences, own, split, shared = experts

    def mean(tables):
        return np.mean([ensemble_nats(nats(tables, ids)).mean() for every in sequences.values() for ids in every])

    gain = mean([shared]) - mean(own)
    assert gain > 0.2
    assert mean([shared]) - mean(split) < 0.2 * gain


def test_the_ensemble_is_bayes_mixture_of_its_experts():
    losses = np.random.default_rng(0).exponential(size=(3, 40))
    prior = np.array([0.5, 0.3, 0.2])
    whole = -np.log((prior * np.exp(-losses.sum(axis=1))).sum())
    assert ensemble_nats(losses, prior).sum() == pytest.approx(whole)
    assert posteriors(losses, prior)[0] == pytest.approx(prior)
    with pytest.raises(FactoryError, match="A prior over 3 experts sums to 1"):
        posteriors(losses, [0.5, 0.5, 0.5])


def test_a_prior_is_a_moving_average_of_posteriors():
    assert cached_prior([[1.0, 0.0], [1.0, 0.0]], decay=0.5) == pytest.approx([0.875, 0.125])


def test_a_model_without_an_expert_is_the_average_of_the_others():
    assert ensemble_nats([[1.0, 2.0], [0.5, 0.1]], [1.0, 0.0]) == pytest.approx([1.0, 2.0])
