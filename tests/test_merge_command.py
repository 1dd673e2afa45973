"""Averages of checkpoints by what they do: greedy soups of a task, experts by texts."""

import json

import numpy as np
import pytest

from factory.core.errors import InputError
from factory.evaluation.report import evaluate_files
from factory.recipes.merge import merge_by_texts, merge_by_weights, merge_greedily

TEXTS = ["the cat sat on the mat", "a dog ran over the hill and on", "on the mat the dog sat"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A small Llama, two that went a little way from it, and one that went far."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    place = tmp_path_factory.mktemp("models")
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab={**alphabet, "<eos>": 256}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=257, eos_token_id=256, max_position_embeddings=64, **shape))
    seed = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    made = []
    for name, far in (("seed", 0.0), ("one", 0.02), ("two", 0.02), ("far", 2.0)):
        with torch.no_grad():
            for key, tensor in model.state_dict().items():
                tensor.copy_(seed[key] + far * torch.randn_like(tensor))
        model.save_pretrained(place / name)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>").save_pretrained(place / name)
        made.append(str(place / name))
    return made


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "held.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return str(path)


def bits(folder, task):
    return evaluate_files(str(folder), [task])["tasks"]["held"]["score"]


def test_a_greedy_soup_is_no_worse_on_its_task_than_any_model_alone(folders, held, tmp_path):
    made = merge_greedily(folders, str(tmp_path / "soup"), held)
    assert made["scores"] == {folder: bits(folder, held) for folder in folders}
    assert bits(tmp_path / "soup", held) <= min(made["scores"].values())
    assert folders[3] not in made["weights"]
    assert sum(made["weights"].values()) == pytest.approx(1)
    assert [path.name for path in tmp_path.iterdir()] == ["soup"]


def test_experts_weigh_what_the_texts_say_of_them(folders, held, tmp_path):
    made = merge_by_texts(folders, str(tmp_path / "new"), held)
    nats = made["nats_per_token"]
    alone = {folder: nats[folder] for folder in folders}
    assert max(made["weights"], key=made["weights"].get) == min(alone, key=alone.get)
    assert made["weights"][folders[3]] < 0.2
    assert nats["ensemble"] < np.mean(list(alone.values()))
    again = merge_by_weights(folders, str(tmp_path / "again"), list(made["weights"].values()))
    assert again["model_digest"] == made["model_digest"]


def test_what_cannot_be_merged_is_refused_before_anything_is_written(folders, held, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="is there already"):
        merge_by_weights(folders, str(tmp_path / "there"))
    with pytest.raises(InputError, match="two or more different checkpoints"):
        merge_by_weights([folders[0], folders[0]], str(tmp_path / "same"))
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"text": ""}\n')
    with pytest.raises(InputError, match="holds no text"):
        merge_by_texts(folders, str(tmp_path / "none"), str(empty))
    assert {path.name for path in tmp_path.iterdir()} == {"there", "empty.jsonl"}
