"""Tasks as others declare them: CORE, OLMES, lm-evaluation-harness, columns of local files; and examples before questions."""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from factory.core.errors import InputError
from factory.evaluation import checkpoint, core, olmes, toxicity
from factory.evaluation.annotations import Columns, unify
from factory.evaluation.checkpoint import Checkpoint, load_checkpoint
from factory.evaluation.evaluate import evaluate_model, read_task
from factory.evaluation.generation import STOPS, is_right, normal
from factory.evaluation.harness import run_harness
from factory.evaluation.harness_tasks import declared, read_declaration
from factory.evaluation.likelihood import Row
from factory.evaluation.multiple_choice import read_items, renormalize
from factory.evaluation.report import evaluate_files, name_tasks
from factory.evaluation.runs import Run, align
from factory.evaluation.sampling import Sampling, pick, write
from factory.evaluation.stream import walk
from factory.evaluation.tasks import Core, MultipleChoice, Olmes
from factory.evaluation.templates import render, value
from factory.evaluation.trees import build_trees
from factory.kernels import decoding

EVAL = Path(__file__).parents[2] / "shared" / "data" / "eval"
needs_data = pytest.mark.skipif(not EVAL.is_dir(), reason="../shared/data/eval is not there")


def lines(rows: Sequence[object]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture(scope="module", params=["bare", "bos"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama, whose tokenizer puts a start token before texts, or none."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    made = tmp_path_factory.mktemp(request.param)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "<eos>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["Question: which of the following is the answer to the question"] * 9, trainer)
    bos = request.param == "bos"
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    named = {"eos_token": "<eos>", **({"bos_token": "<s>"} if bos else {})}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(made)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=400, max_position_embeddings=256, bos_token_id=0 if bos else None, eos_token_id=1,
        initializer_range=0.3, **shape,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Checkpoint:
    return load_checkpoint(folder, device="cpu")


# --- what rows share


def test_every_row_is_a_path_of_one_tree_and_what_they_share_is_there_once() -> None:
    rng = random.Random(0)
    rows = [Row([9, *(rng.randrange(3) for _ in range(rng.randrange(2, 14)))], rng.randrange(1, 3)) for _ in range(200)]
    trees = build_trees(rows, 40)
    seen = []
    for tree in trees:
        assert len(tree) <= 40
        for at, places, targets in zip(tree.rows, tree.places, tree.targets, strict=True):
            row, last = rows[at], int(places[-1])
            path = [n for n in range(last + 1) if last < tree.ends[n]]  # what the last prediction sees
            assert tree.tokens[path].tolist() == row.tokens[:-1]
            assert tree.positions[path].tolist() == list(range(len(row.tokens) - 1))
            assert targets.tolist() == row.tokens[-row.scored :]
            seen.append(at)
    assert sorted(seen) == list(range(200))
    assert sum(map(len, trees)) < 0.8 * sum(len(row.tokens) - 1 for row in rows)


def test_a_stream_is_a_walk_in_which_every_shared_beginning_stands_once() -> None:
    rng = random.Random(0)
    rows = [Row([9, *(rng.randrange(3) for _ in range(rng.randrange(2, 14)))], rng.randrange(1, 3)) for _ in range(200)]
    found = walk(rows)
    beginnings = {tuple(row.tokens[:end]) for row in rows for end in range(1, len(row.tokens))}
    assert len(found.tokens) == len(beginnings)
    path: dict[int, int] = {}
    seen = {}  # what a token sees: its own, and the last at each place before
    for at, (token, position) in enumerate(zip(found.tokens.tolist(), found.positions.tolist(), strict=True)):
        path[position] = token
        seen[at] = [path[place] for place in range(position + 1)]
    assert sorted(found.order) == list(range(200))
    for at, places, targets in zip(found.order, found.places, found.targets, strict=True):
        row = rows[at]
        assert [seen[place] for place in places.tolist()] == [
            row.tokens[: len(row.tokens) - back] for back in range(row.scored, 0, -1)
        ]
        assert targets.tolist() == row.tokens[-row.scored :]


@pytest.mark.parametrize("threads", [1, 2])
def test_shared_and_separate_rows_score_alike(model: Checkpoint, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(checkpoint, "_SHARD", 200)
    rng = random.Random(1)
    shared = [rng.randrange(2, 400) for _ in range(30)]
    rows = [Row([0, *shared[: rng.randrange(5, 30)], *(rng.randrange(2, 400) for _ in range(6))], 4) for _ in range(60)]
    assert model.stream is not None
    one = replace(model, stream=None, batch_tokens=1).score(rows)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for given in ({}, {"stream": None, "branches": True}):
            for width in (7, 64, 1024):
                other = replace(model, batch_tokens=width, **given).score(rows)
                assert max(abs(a.nats - b.nats) for a, b in zip(one, other, strict=True)) <= 1e-4
                assert [a.greedy for a in one] == [b.greedy for b in other]
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["qwen3", "grouped", "tied"])
def test_a_stream_scores_what_transformers_does(folder: Path, tmp_path: Path, kind: str) -> None:
    """Norms over heads, keys that heads share, one matrix for both ends: to 1e-4 nats, and the same tokens the likeliest."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(3)
    shape = {
        "vocab_size": 400, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
        "max_position_embeddings": 128, "bos_token_id": None, "eos_token_id": 1, "initializer_range": 0.3,
        "num_key_value_heads": 4 if kind == "tied" else 2, "tie_word_embeddings": kind == "tied",
    }  # fmt: skip
    network = (
        Qwen3ForCausalLM(Qwen3Config(head_dim=16, **shape))
        if kind == "qwen3"
        else LlamaForCausalLM(LlamaConfig(**shape))
    )
    network.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    model = load_checkpoint(tmp_path, device="cpu")
    assert model.stream is not None
    rng = random.Random(2)
    rows = [Row([1, *(rng.randrange(2, 400) for _ in range(length))], length) for length in (1, 30, 128)]
    plain = replace(model, stream=None)
    for one, other in zip(model.token_nats(rows), plain.token_nats(rows), strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    likeliest = [
        [one.greedy for one in some.score([Row([1, 2, token], 1) for token in range(400)])] for some in (model, plain)
    ]
    assert likeliest[0] == likeliest[1]
    assert sum(likeliest[0]) == 1


def test_numbers_that_are_none_stay_so_and_of_equal_logits_the_first_is_the_likeliest() -> None:
    import numpy as np

    logits = np.zeros((4, 50), np.float32)
    logits[1, 7], logits[2, 7], logits[3, 7] = np.nan, np.inf, -np.inf
    nats, hits = np.empty(8, np.float32), np.empty(8, np.bool_)
    decoding.surprises(logits, np.arange(0, 10, 2), np.array([0, 7] * 4), nats, hits)
    assert nats[:2] == pytest.approx(np.log(50), abs=1e-5)
    assert hits.tolist()[:2] == [True, False]
    assert not np.isfinite(nats[2:6]).any()
    assert nats[6] == pytest.approx(np.log(49), abs=1e-5)
    assert nats[7] == np.inf


# --- beside lm-evaluation-harness


def declaration(output: str, name: str, **given: Any) -> dict[str, Any]:
    file = str(EVAL / f"{name}.jsonl.zst")
    return {
        "task": f"local_{name}", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": file}},
        "test_split": "test", "output_type": output, **given,
    }  # fmt: skip


QUESTION = {"doc_to_text": "{{query}}\nAnswer:", "doc_to_choice": "choices", "doc_to_target": "gold"}
ALL = [{"metric": name} for name in ("acc", "acc_norm", "acc_bytes", "acc_mutual_info")]
AGREEMENT = {
    "choices": declaration("multiple_choice", "arc_easy", metric_list=ALL, **QUESTION),
    "drawn": declaration(
        "multiple_choice", "copa", num_fewshot=3, fewshot_split="test", description="Sentences.\n\n",
        doc_to_text="query", doc_to_choice="{{choices}}", doc_to_target="{{gold}}",
    ),
    "first": declaration(
        "multiple_choice", "piqa", num_fewshot=2, fewshot_split="test", fewshot_config={"sampler": "first_n"}, **QUESTION
    ),
    "contexts": declaration(
        "multiple_choice", "winogrande", doc_to_text="gold", doc_to_choice="context_options", doc_to_target="continuation",
    ),
    "continuation": declaration(
        "loglikelihood", "lambada_openai", doc_to_text="{{context}}", doc_to_target=" {{continuation}}"
    ),
    "rolling": declaration("loglikelihood_rolling", "boolq", doc_to_text="", doc_to_target="{{query}}"),
}  # fmt: skip


@needs_data
def test_our_scores_are_the_harness_own(
    folder: Path, model: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    tasks = {
        label: declared(data, f"{label}.yaml")[1].model_copy(update={"limit": 12}) for label, data in AGREEMENT.items()
    }
    theirs = run_harness(model, folder, tasks, samples=True)
    for label, task in tasks.items():
        table = evaluate_model(model, {label: task}, {label: read_task(task)})
        ours = json.loads(table.schema.metadata[b"tasks"])[label]["harness"]
        for metric, score in theirs[label]["metrics"].items():
            assert ours[metric] == pytest.approx(score, abs=1e-4, rel=1e-4 if "perplexity" in metric else 0), (
                label,
                metric,
            )
        if label == "choices":
            samples = sorted(theirs[label]["samples"], key=lambda sample: sample["doc_id"])
            for row, sample in zip(table.to_pylist(), samples, strict=True):
                found = [-float(answer[0]) for answer in sample["filtered_resps"]]
                assert row["choice_nats"] == pytest.approx(found[:4], abs=1e-3)


@needs_data
def test_the_command_shows_both_side_by_side(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    path = tmp_path / "arc.yaml"
    path.write_text(json.dumps(AGREEMENT["first"]))
    found = evaluate_files(str(folder), [str(path), str(EVAL / "copa.jsonl.zst")], harness=True, limit=6)
    assert set(found["tasks"]) == {"local_piqa", "copa"}
    assert max(found["tasks"]["local_piqa"]["differences"].values()) <= 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"process_docs": "utils.f"}, "'process_docs' is not read: it is code"),
        ({"filter_list": [{"name": "x"}]}, "'filter_list' is not read"),
        ({"dataset_path": "allenai/ai2_arc"}, "Only local files are read"),
        (
            {"output_type": "generate_until"},
            "What is scored here: multiple_choice, loglikelihood, loglikelihood_rolling",
        ),
        ({"metric_list": [{"metric": "f1"}]}, "metric_list names .'f1'."),
        ({"doc_to_txt": "a"}, "unknown key 'doc_to_txt'. Did you mean 'doc_to_text'"),
        ({"num_fewshot": 2}, "no fewshot_split names where examples come from"),
        ({"test_split": "tset"}, "data_files has no path. Did you mean 'test'"),
        ({"doc_to_text": "{% for a in b %}{% for c in d %}{% endfor %}{% endfor %}"}, "a loop in a loop"),
        ({"doc_to_text": "{{ x|regex_replace('(a+)+$', '') }}"}, "there is no filter 'regex_replace'"),
    ],
)
def test_a_key_that_is_not_read_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        declared(declaration("multiple_choice", "arc_easy", **QUESTION) | change, "t.yaml")


def test_declarations_include_others_and_never_code(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "dataset_path: json\noutput_type: multiple_choice\ntest_split: test\ndoc_to_text: query\n"
        "doc_to_choice: choices\ndoc_to_target: gold\ndataset_kwargs: {data_files: {test: items.jsonl}}\n"
    )
    (tmp_path / "a.yaml").write_text("include: base.yaml\ntask: a\ntarget_delimiter: ''\n")
    name, task = read_declaration(str(tmp_path / "a.yaml"))
    assert (name, task.uri, task.target_delimiter) == ("a", str(tmp_path / "items.jsonl"), "")
    (tmp_path / "b.yaml").write_text("include: b.yaml\ntask: b\n")
    with pytest.raises(InputError, match="included by itself"):
        read_declaration(str(tmp_path / "b.yaml"))
    (tmp_path / "c.yaml").write_text("task: c\nprocess_docs: !function utils.f\n")
    with pytest.raises(InputError, match="no task file runs code here"):
        read_declaration(str(tmp_path / "c.yaml"))
    (tmp_path / "d.yaml").write_text("task: &x d\ntag: *x\n")
    with pytest.raises(InputError, match="aliases"):
        read_declaration(str(tmp_path / "d.yaml"))


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ text.__class__ }}",
        "{{ 'a' * 99999999 }}",
        "{{ '%99999999d' % 1 }}",
        "{{ text.ljust(99999999) }}",
        "{{ long.replace('a', long) }}",
        "{{ long|list|join(long) }}",
        "{{ missing }}",
        "{{ text.format(1) }}",
        "{{ range(9) }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox_nor_make_much_of_little(template: str) -> None:
    with pytest.raises(InputError, match="cannot be rendered"):
        value(template, {"text": "abc", "long": "a" * 5000}, "here")


def test_templates_render_as_the_harness_does() -> None:
    record = {"text": "The cat sat", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"}
    assert render("{{text.split(' ')[:-1]|join(' ')}}\n", record, "here") == "The cat\n"
    assert value("{{choices.text}}", record, "here") == ["a", "b"]
    assert render("{{choices.label.index(answerKey)}}", record, "here") == "1"


def test_a_hidden_label_names_its_line() -> None:
    task = declared(declaration("multiple_choice", "x", **QUESTION), "t.yaml")[1]
    from factory.evaluation.harness_tasks import read_items as harness_items

    rows = lines([{"query": "a", "choices": ["b", "c"], "gold": 0}, {"query": "a", "choices": ["b", "c"], "gold": -1}])
    with pytest.raises(InputError, match=r"t\.jsonl, line 1 .*Hidden labels cannot be scored"):
        list(harness_items(task, {"t.jsonl": rows}))


# --- CORE


# Accuracies of DCLM's public results for FineWeb-Edu at 7B-2x (exp_data/evals of mlfoundations/dclm), which give there
# Core_v2 .39647, Core_v1 .41904, Extended_v2 .22421, Extended_v1 .24462.
PUBLISHED = {
    "mmlu_zeroshot": 0.31503, "hellaswag_zeroshot": 0.717785, "jeopardy": 0.446278, "triviaqa_sm_sub": 0.419333,
    "gsm8k_cot": 0.053071, "agi_eval_sat_math_cot": 0.027273, "aqua_cot": 0.016327, "svamp_cot": 0.243333,
    "bigbench_qa_wikidata": 0.674868, "arc_easy": 0.781145, "arc_challenge": 0.555461, "mmlu_fewshot": 0.373496,
    "bigbench_misconceptions": 0.511416, "copa": 0.79, "siqa": 0.635107, "commonsense_qa": 0.371007, "piqa": 0.785637,
    "openbook_qa": 0.446, "bigbench_novel_concepts": 0.53125, "bigbench_strange_stories": 0.626437,
    "bigbench_strategy_qa": 0.564875, "lambada_openai": 0.600815, "hellaswag": 0.727246, "winograd": 0.831502,
    "winogrande": 0.670876, "bigbench_conlang_translation": 0.054878, "bigbench_language_identification": 0.2727,
    "bigbench_conceptual_combinations": 0.446602, "bigbench_elementary_math_qa": 0.245047, "bigbench_dyck_languages":
    0.156, "agi_eval_lsat_ar": 0.286957, "bigbench_cs_algorithms": 0.375758, "bigbench_logical_deduction": 0.259333,
    "bigbench_operators": 0.304762, "bigbench_repeat_copy_logic": 0.0625, "simple_arithmetic_nospaces": 0.054,
    "simple_arithmetic_withspaces": 0.055, "math_qa": 0.23768, "logi_qa": 0.302611, "pubmed_qa_labeled": 0.546,
    "squad": 0.547209, "agi_eval_lsat_rc": 0.272388, "agi_eval_lsat_lr": 0.288235, "coqa": 0.396092,
    "bigbench_understanding_fables": 0.328042, "boolq": 0.74893, "agi_eval_sat_en": 0.257282, "winogender_mc_female":
    0.5, "winogender_mc_male": 0.5, "enterprise_pii_classification": 0.478351, "bbq": 0.489549, "gpqa_main": 0.254464,
    "gpqa_diamond": 0.217172,
}  # fmt: skip


def test_published_accuracies_give_the_published_core() -> None:
    assert (len(core.CORE), len(core.TASKS)) == (22, 53)
    for which, version, expected in (
        ("core", "v2", 0.39647), ("core", "v1", 0.41904), ("extended", "v2", 0.22421), ("extended", "v1", 0.24462),
    ):  # fmt: skip
        found = core.aggregate(PUBLISHED, which, version)  # type: ignore[arg-type]
        assert found.value == pytest.approx(expected, abs=1e-4), found.name
        assert found.name == f"{which}@{version}"


def test_guessing_is_nought_and_knowing_is_one() -> None:
    for version in ("v1", "v2"):
        guessed = {name: core.baseline(name, version) for name in core.TASKS}  # type: ignore[arg-type]
        assert core.aggregate(guessed, "core", version).value == pytest.approx(0, abs=1e-12)  # type: ignore[arg-type]
    assert core.aggregate(dict.fromkeys(core.TASKS, 1.0)).value == pytest.approx(1)
    assert core.baseline("commonsense_qa") == 0.403


def test_a_missing_task_makes_core_unknown_and_is_named() -> None:
    found = core.aggregate({name: score for name, score in PUBLISHED.items() if name != "squad"})
    assert (found.value, found.missing) == (None, ("squad",))
    assert "N/A" in str(found)


@needs_data
def test_core_tasks_are_asked_as_dclm_asks_and_refuse_files_of_others(model: Checkpoint) -> None:
    tasks = {
        name: Core(uri=str(EVAL / f"{name}.jsonl.zst"), limit=4, few_shot=1) for name in ("arc_easy", "winogrande")
    }
    table = evaluate_model(model, tasks, {label: read_task(task) for label, task in tasks.items()})
    assert set(table["metric"].to_pylist()) == {"dclm_accuracy@2"}
    about = json.loads(table.schema.metadata[b"derived"])
    assert about["core@v2"]["value"] is None
    assert len(about["core@v2"]["missing"]) == 22, "four items with one example are no part of CORE"
    items, _ = core.read_core(tasks["arc_easy"].model_copy(update={"few_shot": None}), read_task(tasks["arc_easy"]))
    assert items[0].contexts[0].count("\nAnswer:") == 11
    assert items[0].contexts[0].endswith("\nAnswer:")
    assert items[0].continuations[0].startswith(" ")
    with pytest.raises(InputError, match=r"guessed with 0\.500, and these items, which have 4 to 4 choices"):
        core.read_core(Core(uri="x", task="piqa"), read_task(tasks["arc_easy"]))


# --- OLMES

ARC = {"question": "Why?", "choices": {"text": ["so", "thus", "it is"], "label": ["A", "B", "C"]}, "answerKey": "B"}
GOLDEN = [
    ("arc_easy", ARC, "Question: Why?\nAnswer:", "Question: Why?\n A. so\n B. thus\n C. it is\nAnswer:", 1),
    (
        "piqa", {"goal": "To dry,", "sol1": "rub", "sol2": "wait", "label": 1},
        "Goal: To dry,\nAnswer:", "Goal: To dry,\n A. rub\n B. wait\nAnswer:", 1,
    ),
    (
        "boolq", {"passage": "It is.", "question": "is it", "answer": True},
        "It is.\nQuestion: is it?\nAnswer:", "It is.\nQuestion: is it?\n A. yes\n B. no\nAnswer:", 0,
    ),
    (
        "hellaswag",
        {"activity_label": "Rowing", "ctx_a": "A man sits.", "ctx_b": "he", "ctx": "x", "endings": ["rows [x].", "eats."],
         "label": 0},
        "Rowing: A man sits. He",
        "Rowing: A man sits. He\nChoose the best continuation:\n A. rows .\n B. eats.\nAnswer:", 0,
    ),
    (
        "social_iqa", {"context": "Ann ran.", "question": "Why?", "answerA": "a", "answerB": "b", "answerC": "c", "label": "3"},
        "Question: Ann ran. Why?\nAnswer:", "Question: Ann ran. Why?\n A. a\n B. b\n C. c\nAnswer:", 2,
    ),
    (
        "mmlu", {"question": "Why?", "choices": ["a", "b"], "answer": 0, "subject": "high_law"},
        "Question: Why?\nAnswer:", "Question: Why?\n A. a\n B. b\nAnswer:", 0,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("task", "record", "cloze", "letters", "gold"), GOLDEN)
def test_prompts_of_olmes_are_its_own_to_the_byte(
    task: str, record: dict[str, Any], cloze: str, letters: str, gold: int
) -> None:
    one = olmes.read_standard(task, record, "cloze", item="t:0", place="here")
    other = olmes.read_standard(task, record, "letters", item="t:0", place="here")
    assert (one.contexts[0], one.gold) == (cloze, gold)
    assert (other.contexts[0], other.gold, other.continuations[0]) == (letters, gold, " A")


def test_winogrande_scores_what_follows_the_blank() -> None:
    record = {"sentence": "X hit _ hard", "option1": "Y", "option2": "Z", "answer": "2"}
    one = olmes.read_standard("winogrande", record, "cloze", item="t:0", place="here")
    assert (one.contexts, one.continuations, one.gold) == (("X hit Y", "X hit Z"), (" hard", " hard"), 1)
    other = olmes.read_standard("winogrande", record, "letters", item="t:0", place="here")
    assert other.contexts[0] == "Fill in the blank: X hit ___ hard\n A. Y\n B. Z\nAnswer:"


def test_the_sample_of_olmes_is_always_the_same() -> None:
    assert olmes.sampled(1500) == list(range(1500))
    drawn = olmes.sampled(2376)  # ARC-Easy
    assert drawn == random.Random(1234).sample(range(2376), 1000)
    assert hashlib.sha256(json.dumps(drawn).encode()).hexdigest()[:16] == "82b6dd04a387f55c"


def test_olmes_shows_curated_examples_and_says_which_formulation_won(model: Checkpoint) -> None:
    shots = [ARC | {"question": f"Shot {n}?"} for n in range(5)]
    files = {"t.jsonl": lines([ARC] * 3), "@shots/s.jsonl": lines(shots)}
    items, normalize = olmes.read_olmes(
        Olmes(uri="t", task="arc_challenge", shots="s"),
        {"t.jsonl": files["t.jsonl"]},
        {"s": files["@shots/s.jsonl"]},
        "cloze",
    )
    expected = "".join(f"Question: Shot {n}?\nAnswer: thus\n\n" for n in range(5)) + "Question: Why?\nAnswer:"
    assert (items[0].contexts[0], normalize) == (expected, "pmi")
    table = evaluate_model(model, {"a": Olmes(uri="t", task="arc_easy", shots="s", formulation="best")}, {"a": files})
    about = json.loads(table.schema.metadata[b"tasks"])["a"]
    assert about["formulation"] in ("cloze", "letters")
    assert about["score"] == max(about["formulations"].values())
    assert set(table["formulation"].to_pylist()) == {about["formulation"]}
    with pytest.raises(InputError, match="5 curated examples, and the file has 2"):
        evaluate_model(
            model, {"a": Olmes(uri="t", task="arc_easy", shots="s")},
            {"a": files | {"@shots/s.jsonl": lines(shots[:2])}},
        )  # fmt: skip


# --- examples, letters, and what a row keeps


def test_drawn_examples_never_hold_the_question_and_do_not_depend_on_the_limit() -> None:
    rows = lines([{"query": f"Question: {n}?", "choices": ["a", "b"], "gold": n % 2} for n in range(30)])
    few = MultipleChoice(uri="t", few_shot=3)
    items, _ = read_items(few, {"t": rows})
    less, _ = read_items(few.model_copy(update={"limit": 5}), {"t": rows})
    assert {item.id: item for item in items} | {item.id: item for item in less} == {item.id: item for item in items}
    for number, item in enumerate(items):
        *shown, asked = item.contexts[0].split("\n\n")
        assert len(shown) == 3
        assert asked == f"Question: {number}?\nAnswer:"
        assert not any(f"Question: {number}?" in one for one in shown)
    other, _ = read_items(few.model_copy(update={"shot_seed": 7}), {"t": rows})
    assert [item.contexts for item in other] != [item.contexts for item in items]


def test_examples_of_a_file_are_its_first_and_letters_answer_letters() -> None:
    rows = lines([{"query": "Question: why?", "choices": ["so", "thus"], "gold": 1}])
    shots = lines([{"query": f"Question: {n}?", "choices": ["x", "y"], "gold": 0} for n in range(4)])
    config = MultipleChoice(uri="t", few_shot=1, shots="s", formulation="letters")
    (item,), normalize = read_items(config, {"t": rows}, {"s": shots})
    assert item.contexts[0] == "Question: 0?\n A. x\n B. y\nAnswer: A\n\nQuestion: why?\n A. so\n B. thus\nAnswer:"
    assert (item.continuations, item.gold, normalize) == ((" A", " B"), 1, "raw")
    with pytest.raises(InputError, match="9 examples asked, and their file has 4"):
        read_items(config.model_copy(update={"few_shot": 9}), {"t": rows}, {"s": shots})


def test_a_stored_row_can_be_compared_in_any_measure(model: Checkpoint) -> None:
    rows = lines([{"query": f"Question {n}", "choices": ["é", "a long answer", "the"], "gold": 0} for n in range(12)])
    measured: dict[str, list[int]] = {}
    for normalize in ("raw", "char", "bytes", "token", "pmi"):
        table = evaluate_model(model, {"t": MultipleChoice(uri="t", normalize=normalize)}, {"t": {"t": rows}})
        measured[normalize] = table["predicted"].to_pylist()
    stored = table.to_pylist()
    for normalize, taken in measured.items():
        assert [renormalize(row, normalize).taken for row in stored] == taken
    assert len({tuple(taken) for taken in measured.values()}) > 1


def test_what_was_not_asked_without_the_question_cannot_be_compared_so() -> None:
    row = {"item": "t:0", "choice_nats": [1.0, 2.0], "choice_alone_nats": None}
    with pytest.raises(InputError, match="Evaluate the task with pmi once"):
        renormalize(row, "pmi")


# --- columns


def test_columns_make_unified_rows() -> None:
    choices = Columns(inputs="q", choices=("a", "b"), labels="right")
    assert unify(choices, {"q": "Why?", "a": "so", "b": "thus", "right": "B"}, "here").label == 1
    nested = Columns(inputs=("story", "q"), choices="options.text", labels="answer", first=1)
    row = unify(nested, {"story": "S.", "q": "Q?", "options": {"text": ["x", "y"]}, "answer": 2}, "here")
    assert (row.inputs, row.choices, row.label) == ("S.\nQ?", ("x", "y"), 1)
    label = Columns(type="classification", inputs="text", labels="toxic", names={"0": "kind", "1": "rude"})
    assert unify(label, {"text": "T", "toxic": True}, "here").label == 1
    few = Columns(inputs="q", choices="c", labels="y", max_choices=2)
    assert unify(few, {"q": "Q", "c": ["a", "b", "c"], "y": 2}, "here").choices == ("a", "c")


def test_a_label_that_is_a_number_is_a_place_even_among_numbers() -> None:
    columns = Columns(inputs="q", choices="c", labels="y")
    assert unify(columns, {"q": "Q", "c": ["1", "0"], "y": 0}, "here").label == 0
    assert unify(columns, {"q": "Q", "c": ["1", "0"], "y": "0"}, "here").label == 1


def test_labels_nobody_may_see_are_refused_and_keys_are_suggested() -> None:
    columns = Columns(inputs="q", choices="c", labels="y")
    with pytest.raises(InputError, match="Hidden labels cannot be scored"):
        unify(columns, {"q": "Q", "c": ["a", "b"], "y": -1}, "here")
    with pytest.raises(InputError, match=r"no value for 'q'.*Did you mean 'qs'"):
        unify(columns, {"qs": "Q", "c": ["a", "b"], "y": 1}, "here")
    with pytest.raises(ValueError, match="two values one text"):
        Columns(type="classification", inputs="t", labels="y", names={"0": "x", "1": "x"})


def test_files_say_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "held.jsonl").write_bytes(lines([{"text": "a"}]))
    (tmp_path / "asked.jsonl").write_bytes(lines([{"query": "q", "choices": ["a", "b"], "gold": 0}]))
    found = name_tasks([str(tmp_path / "held.jsonl"), str(tmp_path / "asked.jsonl")])
    assert {label: type(config).__name__ for label, config in found.items()} == {
        "held": "BitsPerByte",
        "asked": "MultipleChoice",
    }
    with pytest.raises(InputError, match="two tasks are named 'held'"):
        name_tasks([str(tmp_path / "held.jsonl")] * 2)


# --- in a recipe


def test_a_recipe_reads_a_declaration_beside_it_and_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    from factory.core.errors import RecipeError
    from factory.recipes.load import check_recipe

    (tmp_path / "arc.yaml").write_text(json.dumps(declaration("multiple_choice", "arc_easy", **QUESTION)))
    (tmp_path / "bad.yaml").write_text("task: bad\nprocess_docs: f\n")
    data = {
        "name": "r",
        "sources": {"web": {"use": "jsonl", "uri": "*.jsonl"}},
        "mixture": {"use": "natural", "tokens": 100_000},
    }
    made = check_recipe(
        {**data, "evaluate": {"arc": {"use": "harness", "file": "arc.yaml", "limit": 5}}}, folder=str(tmp_path)
    )
    assert (made.evaluate[0].config.measure, made.evaluate[0].config.places["uri"]) == (
        "accuracy@1", str(EVAL / "arc_easy.jsonl.zst"),
    )  # fmt: skip
    with pytest.raises(RecipeError, match=r"evaluate\.bad: .*bad\.yaml: 'process_docs' is not read"):
        check_recipe({**data, "evaluate": {"bad": {"use": "harness", "file": "bad.yaml"}}}, folder=str(tmp_path))


def test_a_task_file_that_changed_since_the_plan_is_not_evaluated(tmp_path: Path) -> None:
    from factory.recipes.references import pin_files
    from factory.recipes.steps.evaluations import _check_pinned

    path = tmp_path / "t.jsonl"
    path.write_bytes(lines([{"query": "q", "choices": ["a", "b"], "gold": 0}]))
    tasks = {"t": MultipleChoice(uri="t.jsonl")}
    pinned = pin_files(["t.jsonl"], str(tmp_path))
    _check_pinned(tasks, pinned, str(tmp_path))
    path.write_bytes(lines([{"query": "q", "choices": ["a", "b"], "gold": 1}]))
    with pytest.raises(InputError, match=r"t\.jsonl changed since this run was planned"):
        _check_pinned(tasks, pinned, str(tmp_path))


# --- what several items ask about


def test_questions_on_one_passage_are_drawn_together(model: Checkpoint) -> None:
    asked = [
        {
            "question": "is it",
            "passage": f"{'the answer ' * 20}{at // 3}",
            "answer": at % 2,
            "source": None if at > 5 else at // 2,
        }
        for at in range(9)
    ]
    files = {"q.jsonl": lines(asked)}
    for passage, groups in ((None, [0, 0, 0, 1, 1, 1, 2, 2, 2]), ("source", [0, 0, 1, 1, 2, 2, 3, 4, 5])):
        table = evaluate_model(model, {"q": MultipleChoice(uri="", passage=passage)}, {"q": files})
        named = table["passage"].to_pylist()
        assert all(name is None or len(name) <= 64 for name in named)
        tasks, _, _ = align([Run("base", "nano", 0, {}, table)], "base")
        assert tasks["q"].groups is not None
        found = tasks["q"].groups.tolist()
        assert [[a == b for b in found] for a in found] == [[a == b for b in groups] for a in groups]
    with pytest.raises(InputError, match="no value for 'sauce'"):
        read_items(MultipleChoice(uri="", passage="sauce"), files)


# --- what a model writes


def test_greedy_texts_are_those_of_transformers_whatever_stands_beside_them(model: Checkpoint) -> None:
    import torch

    prompts = ["Question: which", "the answer is the", "of the following which question is", "a"]
    how = Sampling(tokens=12, temperature=0.0)
    texts = write(model, prompts, how)
    for prompt, (text,) in zip(prompts, texts, strict=True):
        fed = torch.tensor([[model.start, *model.encode([prompt])[0]]])
        made = model.network.generate(
            fed,
            attention_mask=torch.ones_like(fed),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=[0, 1],
            pad_token_id=1,
        )[0, fed.shape[1] :].tolist()
        ended = next((at for at, token in enumerate(made) if token in (model.start, 1)), len(made))
        assert text == model.tokenizer.decode(made[:ended], skip_special_tokens=False)
    assert write(replace(model, stream=None), prompts, how) == texts
    stop = texts[0][0][2:5]
    assert write(model, prompts[:1], replace(how, stops=(stop,)))[0][0] == texts[0][0].partition(stop)[0]


def test_a_sample_depends_on_seed_prompt_and_number_alone(model: Checkpoint) -> None:
    how = Sampling(tokens=6, samples=5, seed=3)
    prompts = [f"the answer {at}" for at in range(20)]
    found = write(model, prompts, how)
    assert write(model, prompts[::-1], how)[::-1] == found
    assert [own[:2] for own in write(model, prompts, replace(how, samples=2))] == [own[:2] for own in found]
    assert write(model, prompts, how, kept=1) == found, "one prompt at a time, where memory is short"
    assert write(replace(model, stream=None), prompts[:2], how) == found[:2]
    assert write(model, prompts, replace(how, seed=4)) != found
    assert len({text for own in found for text in own}) > 50


def test_draws_come_from_the_fewest_tokens_that_hold_top_p_in_their_proportions() -> None:
    import numpy as np

    shares = np.array([0.1, 0.5, 0.05, 0.3, 0.05])
    draw = np.random.default_rng(0)
    counts = np.bincount([pick(np.log(shares), Sampling(top_p=0.9), draw) for _ in range(4000)], minlength=5)
    assert counts[[2, 4]].sum() == 0
    assert counts / 4000 == pytest.approx(shares * [1, 1, 0, 1, 0] / 0.9, abs=0.03)
    assert {pick(np.log(shares), Sampling(top_p=0.5), draw) for _ in range(50)} == {1}
    assert pick(np.log(shares), Sampling(temperature=0.0), draw) == 1


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("The Leprosy, of course", True),
        ("it is leprosy", False),
        (" LEPROSY", True),
        ("so #### an answer #### leprosy", True),
        ("", False),
    ],
)
def test_an_answer_is_right_where_it_begins_as_one_of_the_right_ones(text: str, right: bool) -> None:
    assert is_right(text, ("the leprosy.", "a")) is right


def test_generating_tasks_of_dclm_are_answered(model: Checkpoint) -> None:
    asked = [
        {"context": f"Question: which {at}\nAnswer:", "answer": f"answer {at}", "aliases": ["the zebra"]}
        for at in range(9)
    ]
    table = evaluate_model(model, {"t": Core(uri="")}, {"t": {"triviaqa_sm_sub.jsonl": lines(asked)}})
    assert table["value"].to_pylist() == [0.0] * 9
    assert "triviaqa_sm_sub" not in json.loads(table.schema.metadata[b"derived"])["extended@v2"]["missing"]
    # What it wrote as the right answer makes it right, and only there.
    chains = [{"context": f"which {at}", "answer": str(at), "chain_of_thought": "the question"} for at in range(5)]
    settings = Core(uri="", task="svamp_cot", few_shot=0)
    (said, *_) = write(
        model, ["Q: which 0\nUsing the formula below:\n"], Sampling(tokens=16, temperature=0.0, stops=STOPS)
    )[0]
    chains[0]["answer"] = normal(said)[:3]
    table = evaluate_model(model, {"t": settings}, {"t": {"svamp.jsonl": lines(chains)}})
    assert table["value"].to_pylist() == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_what_is_written_is_judged_by_prompt(model: Checkpoint) -> None:
    texts = write(model, ["the answer", "which"], Sampling(tokens=5, samples=4))
    found = toxicity.said(texts, lambda given: [float(text == texts[1][2]) for text in given])
    assert found["prompts"] == 2
    assert found["any_share"] >= 0.5


def test_what_is_written_is_counted_before_anything_is_written(model: Checkpoint) -> None:
    from factory.recipes.trial_training import count_items

    files = {"svamp.jsonl": lines([{"context": "which", "answer": "of", "chain_of_thought": "the"} for _ in range(9)])}
    config = Core(uri="", task="svamp_cot", few_shot=0)
    whole, few = (count_items(model, one, files) for one in (config, config.model_copy(update={"limit": 3})))
    assert (whole[0], few[0]) == (9, 3)
    assert 0 < few[1] < whole[1]
