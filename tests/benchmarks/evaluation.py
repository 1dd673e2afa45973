"""Evaluation beside lm-evaluation-harness: items per CPU second on the same checkpoint and the same declarations.

`measure()` returns the figures; models are loaded and warm on both sides, and scores are checked to agree. Both take turns,
and a ratio is the median over the turns, against the best of the harness's batch sizes. The *floor* is the time of the matrix
products of our stream alone, each token and each scored place once, at the rate this machine makes them: nothing that makes
those products in float32 can be faster. Run as a program it prints JSON.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BATCHES = (1, 8, 32)
QUESTION = {"doc_to_text": "{{query}}\nAnswer:", "doc_to_choice": "choices", "doc_to_target": "gold"}
FIRST = {"num_fewshot": 5, "fewshot_split": "test", "fewshot_config": {"sampler": "first_n"}}


def declarations(data: str) -> dict[str, dict[str, Any]]:
    def of(name: str, output: str, **given: Any) -> dict[str, Any]:
        files = {"data_files": {"test": f"{data}/eval/{name}.jsonl.zst"}}
        base = {"task": name, "dataset_path": "json", "dataset_kwargs": files, "test_split": "test"}
        return {**base, "output_type": output, **given}

    return {
        "choices": of("arc_easy", "multiple_choice", **QUESTION),
        "choices, 5 examples": of("arc_easy", "multiple_choice", **QUESTION, **FIRST),
        "continuation": of("lambada_openai", "loglikelihood", doc_to_text="context", doc_to_target=" {{continuation}}"),
        "documents": of("boolq", "loglikelihood_rolling", doc_to_text="", doc_to_target="{{query}}"),
    }


def make_checkpoint(folder: Path, data: str, *, width: int, layers: int, vocabulary: int) -> None:
    """A Llama of random weights with a tokenizer trained on the tasks: as fast as a trained one of its shape."""
    import torch
    import zstandard
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    unpack = zstandard.ZstdDecompressor()
    files = ("arc_easy", "boolq", "hellaswag", "lambada_openai")
    texts = [unpack.stream_reader(Path(f"{data}/eval/{name}.jsonl.zst").read_bytes()).read().decode() for name in files]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=max(2, width // 64),
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


@contextmanager
def recorded(stream: Any) -> Iterator[list[Any]]:
    """The walks that are made meanwhile."""
    walks: list[Any] = []
    plain = stream.walk

    def walk(rows: Any) -> Any:
        walks.append(plain(rows))
        return walks[-1]

    stream.walk = walk
    try:
        yield walks
    finally:
        stream.walk = plain


def floor_seconds(model: Any, walks: list[Any]) -> float:
    """CPU seconds of the matrix products of these walks, and of nothing else."""
    import numpy as np
    import torch

    stream, count = model.stream, model.batch_tokens

    def rate(matrix: Any, rows: int) -> float:
        """Seconds a row, the best of some tries."""
        given, made = torch.randn(rows, matrix.shape[1]), torch.empty(rows, matrix.shape[0])
        took = []
        for _ in range(6):
            begun = time.process_time()
            for _ in range(5):
                torch.mm(given, matrix.t(), out=made)
            took.append((time.process_time() - begun) / 5 / rows)
        return min(took)

    tokens = sum(len(walk.tokens) for walk in walks)
    places = sum(len(np.unique(np.concatenate(walk.places))) for walk in walks)
    (_, qkv, _, _, out, _, gated, down) = stream.layers[-1]
    query, pairs = qkv[: stream.inner], qkv[stream.inner :]
    with torch.inference_mode():
        layer = sum(rate(matrix, count) for matrix in (qkv, out, gated, down))
        last = sum(rate(matrix, count) for matrix in (query, out, gated, down))
        head = rate(stream.head, 256)
        each = (len(stream.layers) - 1) * layer + rate(pairs, count)
    return tokens * each + places * (last + head)


def measure(
    data: str, *, items: int = 300, width: int = 128, layers: int = 2, vocabulary: int = 4096, repeats: int = 2
) -> dict[str, Any]:
    """Items per CPU second of ours and of the harness by task, and their ratio."""
    import torch

    from factory.evaluation import stream
    from factory.evaluation.checkpoint import load_checkpoint
    from factory.evaluation.evaluate import evaluate_model, read_task
    from factory.evaluation.harness import run_harness
    from factory.evaluation.harness_tasks import declared
    from factory.evaluation.report import differences

    torch.set_num_threads(1)
    made: dict[str, Any] = {"items": items, "width": width, "layers": layers, "vocabulary": vocabulary, "tasks": {}}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_DATASETS_CACHE"] = f"{folder}/cache"
        make_checkpoint(Path(folder), data, width=width, layers=layers, vocabulary=vocabulary)
        model = load_checkpoint(folder, device="cpu")
        for label, declaration in declarations(data).items():
            name, task = declared(declaration, f"{label}.yaml")
            task = task.model_copy(update={"limit": items})
            files = {name: read_task(task)}
            evaluate_model(model, {name: task.model_copy(update={"limit": 20})}, files)
            run_harness(model, folder, {name: task.model_copy(update={"limit": 2})})
            with recorded(stream) as walks:
                evaluate_model(model, {name: task}, files)
            ours: list[float] = []
            floors: list[float] = []
            theirs: dict[int, list[float]] = {size: [] for size in BATCHES}
            ratios: dict[int, list[float]] = {size: [] for size in BATCHES}
            for _ in range(repeats):
                for size in BATCHES:
                    begun = time.process_time()
                    table = evaluate_model(model, {name: task}, files)
                    ours.append(time.process_time() - begun)
                    floors.append(floor_seconds(model, walks))
                    scored = run_harness(model, folder, {name: task}, batch_size=size)[name]
                    theirs[size].append(scored["cpu_seconds"])
                    ratios[size].append(theirs[size][-1] / ours[-1])
            found = json.loads((table.schema.metadata or {})[b"tasks"])[name]["harness"]
            apart = differences(found, scored["metrics"])
            rates = {size: table.num_rows / statistics.median(took) for size, took in theirs.items()}
            floor = min(floors)  # of the machine at its quietest
            made["tasks"][label] = {
                "floor_items_per_second": table.num_rows / floor,
                "of_the_floor": floor / statistics.median(ours),
                "most_possible": min(statistics.median(took) for took in theirs.values()) / floor,
                "items_per_second": table.num_rows / statistics.median(ours),
                "lm_eval_items_per_second": rates,
                "ratio": min(statistics.median(taken) for taken in ratios.values()),
                "apart": max(one for one in apart.values() if one is not None),
            }
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    for option, default in (("items", 300), ("width", 128), ("layers", 2), ("vocabulary", 4096)):
        parser.add_argument(f"--{option}", type=int, default=default)
    given = vars(parser.parse_args())
    json.dump(measure(given.pop("data"), **given), sys.stdout, indent=1)
