"""Likelihoods and tasks: on tables whose answers are known in closed form, and on a small random Llama."""

import gzip
import io
import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.compute as pc
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.core.errors import FactoryError, InputError
from factory.evaluation.evaluate import evaluate, evaluate_model
from factory.evaluation.forms import FORMS, find_form, read_item
from factory.evaluation.likelihood import Likelihood, Row, RowScore, likelihoods
from factory.evaluation.multiple_choice import best_choice, choice_scores
from factory.evaluation.records import chosen, read_files, records
from factory.evaluation.table import EVALUATION
from factory.evaluation.tasks import BitsPerByte, MultipleChoice, Normalization, find_task, task_digest

START = 256
EVAL = Path(__file__).parents[2] / "shared" / "data" / "eval"
needs_data = pytest.mark.skipif(not EVAL.is_dir(), reason="../shared/data/eval is not there")


class Table:
    """A unigram model over bytes, optionally with some pairs of bytes as one token: every likelihood is a sum."""

    start = START
    adds_start = False

    def __init__(self, nats: Callable[[bytes], float], *, context: int = 64, pair: bytes = b""):
        self.nats, self.context, self.pair = nats, context, pair
        self.fed: list[Row] = []

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._encode(text.encode()) for text in texts]

    def _encode(self, data: bytes) -> list[int]:
        tokens, at = [], 0
        while at < len(data):
            merged = self.pair and data[at : at + 2] == self.pair
            tokens.append(300 if merged else data[at])
            at += 2 if merged else 1
        return tokens

    def score(self, rows: Sequence[Row]) -> list[RowScore]:
        self.fed += rows
        return [RowScore(sum(self._nats(token) for token in row.tokens[-row.scored :]), False) for row in rows]

    def token_nats(self, rows: Sequence[Row]) -> list[list[float]]:
        return [[self._nats(token) for token in row.tokens[-row.scored :]] for row in rows]

    def _nats(self, token: int) -> float:
        return self.nats(self.pair if token == 300 else bytes([token]))


def by_letter(token: bytes) -> float:
    return sum({97: 1.0, 98: 2.0, 32: 0.5}.get(byte, 4.0) for byte in token)


def uniform(token: bytes) -> float:
    return len(token) * math.log(256)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["the cat sat on the mat and the rat sat on the hat"] * 9, trainer)
    tokenizer.enable_truncation(8)  # a setting left behind by training must not shorten what is scored
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    network = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=32, bos_token_id=None, eos_token_id=0, initializer_range=0.3,
        )
    )  # fmt: skip
    network.save_pretrained(folder)
    return folder


def write(path: Path, rows: Sequence[object]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", "utf-8")
    return str(path)


# --- bits per byte


@pytest.mark.parametrize("pair", [b"", b"ab"])
def test_a_uniform_byte_model_needs_eight_bits_whatever_the_tokenizer(tmp_path: Path, pair: bytes) -> None:
    uri = write(tmp_path / "held.jsonl", [{"text": "abab é 漢" * 40, "domain": "web"}, {"text": "x", "domain": "code"}])
    task = BitsPerByte(uri=uri)
    table = evaluate_model(Table(uniform, pair=pair), {"held": task}, {"held": read_files(uri)})
    assert table["value"].to_pylist() == pytest.approx([8.0, 8.0], abs=1e-12)


def test_windows_are_disjoint_and_cover_every_token_once() -> None:
    model = Table(by_letter, context=10)
    text = "ab" * 33
    (found,) = likelihoods(model, [("", text)])
    assert found == Likelihood(99.0, 66, False, False)
    assert [row.scored for row in model.fed] == [10] * 6 + [6]
    assert b"".join(bytes(row.tokens[-row.scored :]) for row in model.fed) == text.encode()
    assert all(len(row.tokens) - 1 <= 10 for row in model.fed)


def test_documents_do_not_depend_on_their_neighbours(checkpoint: Path, tmp_path: Path) -> None:
    rows = [{"text": f"the cat {n} " * (n + 1), "domain": "ab"[n % 2]} for n in range(9)]
    one = evaluate(checkpoint, {"h": BitsPerByte(uri=write(tmp_path / "a.jsonl", rows))})
    back = evaluate(checkpoint, {"h": BitsPerByte(uri=write(tmp_path / "b.jsonl", rows[::-1]))})
    assert back["value"].to_pylist()[::-1] == pytest.approx(one["value"].to_pylist(), abs=1e-5)


def test_a_domain_is_its_nats_over_its_bytes_and_the_macro_mean_is_not_the_micro_mean(tmp_path: Path) -> None:
    rows = [
        {"text": "a" * 100, "domain": "long"},
        {"text": "b" * 4, "domain": "short"},
        {"text": "a", "domain": "short"},
    ]
    uri = write(tmp_path / "h.jsonl", rows)
    table = evaluate_model(Table(by_letter, context=500), {"h": BitsPerByte(uri=uri)}, {"h": read_files(uri)})
    sums = table.append_column("part", pc.multiply(table["value"], table["weight"])).group_by("domain")
    scores = {
        r["domain"]: r["part_sum"] / r["weight_sum"]
        for r in sums.aggregate([("part", "sum"), ("weight", "sum")]).to_pylist()
    }
    assert scores == pytest.approx({"long": 1 / math.log(2), "short": 9 / 5 / math.log(2)})
    micro = pc.sum(table["nats"]).as_py() / pc.sum(table["bytes"]).as_py() / math.log(2)
    assert sum(scores.values()) / 2 > 1.3 * micro


def test_a_document_without_domain_names_the_keys_there_are(tmp_path: Path) -> None:
    uri = write(tmp_path / "h.jsonl", [{"text": "a", "domian": "web"}])
    with pytest.raises(InputError, match=r"line 0 .*no value for 'domain'\. Did you mean 'domian'"):
        evaluate_model(Table(uniform), {"h": BitsPerByte(uri=uri)}, {"h": read_files(uri)})


# --- likelihood


def test_only_what_follows_the_shared_prefix_is_scored() -> None:
    model = Table(by_letter, pair=b"ab")
    plain, merged = likelihoods(model, [("a", "a"), ("a", "b")])
    assert (plain.nats, plain.tokens) == (1.0, 1)
    assert (merged.nats, merged.tokens) == (3.0, 1), "the token 'ab' begins in the context: all of it is scored"


def test_truncation_takes_the_left_of_the_context_and_never_the_answer() -> None:
    model = Table(by_letter, context=8)
    (found,) = likelihoods(model, [("x" * 20 + "yz", "abab")])
    assert (found.nats, found.tokens, found.truncated) == (6.0, 4, True)
    assert model.fed == [Row([START, *b"xxyz", *b"abab"], 4)]


def test_every_text_begins_with_one_start_token_and_a_tokenizer_that_adds_it_is_refused() -> None:
    model = Table(by_letter)
    likelihoods(model, [("", "ab"), ("a", "b")])
    assert [row.tokens.count(START) for row in model.fed] == [1, 1]
    doubled = Table(by_letter)
    doubled.start = ord("a")
    with pytest.raises(FactoryError, match="start token 97 before a text"):
        likelihoods(doubled, [("", "ab")])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("ab ", min_size=1, max_size=40), min_size=1, max_size=5), st.integers(4, 12))
def test_a_text_in_windows_scores_what_it_scores_whole(texts: list[str], context: int) -> None:
    pairs = [("", text) for text in texts]
    cut = likelihoods(Table(by_letter, context=context), pairs)
    assert [(one.nats, one.tokens) for one in cut] == [
        (one.nats, one.tokens) for one in likelihoods(Table(by_letter, context=500), pairs)
    ]


def test_batches_do_not_change_scores(checkpoint: Path, tmp_path: Path) -> None:
    rows = [{"text": "the rat sat on the hat " * (n % 7 + 1), "domain": "d"} for n in range(12)]
    tasks = {"h": BitsPerByte(uri=write(tmp_path / "h.jsonl", rows))}
    one, many = (evaluate(checkpoint, tasks, batch_tokens=size) for size in (1, 256))
    worst = max(abs(a - b) for a, b in zip(one["nats"].to_pylist(), many["nats"].to_pylist(), strict=True))
    assert worst <= 1e-4
    assert max(one["tokens"].to_pylist()) > 32, (
        "some document is longer than the context, and the tokenizer's old limit"
    )


def test_the_likelihood_is_the_one_a_plain_forward_pass_gives(checkpoint: Path) -> None:
    import torch

    from factory.evaluation.checkpoint import load_checkpoint

    model = load_checkpoint(checkpoint)
    ((context, both),) = [model.encode(["the cat", "the cat sat on"])]
    with torch.inference_mode():
        logits = model.network(torch.tensor([[0, *both]])).logits.log_softmax(-1)[0]
    wanted = -sum(logits[at, both[at]].item() for at in range(len(context), len(both)))
    (found,) = likelihoods(model, [("the cat", " sat on")])
    assert (model.start, model.start_is) == (0, "eos"), "no BOS was trained: EOS stood between the documents"
    assert found.nats == pytest.approx(wanted, abs=1e-4)


def test_a_start_token_that_no_training_saw_is_never_made_up(checkpoint: Path) -> None:
    from factory.evaluation.checkpoint import load_checkpoint

    with pytest.raises(InputError, match=r"no start token \(bos\).*bos_token_id None and eos_token_id 0"):
        load_checkpoint(checkpoint, start="bos")


def test_the_name_of_a_special_token_inside_a_text_is_text(checkpoint: Path) -> None:
    from factory.evaluation.checkpoint import load_checkpoint

    model = load_checkpoint(checkpoint)
    (tokens,) = model.encode(["a<eos>b"])
    assert model.start not in tokens
    assert model.tokenizer.decode(tokens) == "a<eos>b"


def test_pickled_weights_and_cut_short_ones_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((checkpoint / name).read_bytes())
    task = {"h": BitsPerByte(uri=write(tmp_path / "h.jsonl", [{"text": "a", "domain": "d"}]))}
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match=r"no \*\.safetensors"):
        evaluate(tmp_path, task)
    (tmp_path / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(InputError, match="cannot be loaded"):
        evaluate(tmp_path, task)


# --- multiple choice


def test_the_five_measures_are_their_closed_forms() -> None:
    texts = [" aaaa", " b", " é"]
    model = Table(by_letter)
    found = likelihoods(model, [("c", text) for text in texts])
    alone = dict(zip(texts, (Likelihood(3.0, 1, False, False),) * 3, strict=True))
    nats = [4.5, 2.5, 8.5]
    expected: dict[Normalization, list[float]] = {
        "raw": [-value for value in nats],
        "char": [-4.5 / 5, -2.5 / 2, -8.5 / 2],
        "bytes": [-4.5 / 5, -2.5 / 2, -8.5 / 3],
        "token": [-4.5 / 5, -2.5 / 2, -8.5 / 3],
        "pmi": [3 - value for value in nats],
    }
    for normalize, scores in expected.items():
        assert choice_scores(texts, found, alone, normalize) == pytest.approx(scores, abs=1e-9)
    assert best_choice(expected["raw"]).taken == 1
    assert best_choice(expected["char"]).taken == 0, "per character the longer choice wins"


def test_pmi_subtracts_what_a_choice_is_worth_after_answer_alone(checkpoint: Path, tmp_path: Path) -> None:
    uri = write(tmp_path / "t.jsonl", [{"query": "the cat", "choices": ["sat", "ran far"], "gold": 1}])
    raw = evaluate(checkpoint, {"t": MultipleChoice(uri=uri, normalize="raw")})
    pmi = evaluate(checkpoint, {"t": MultipleChoice(uri=uri, normalize="pmi")})
    from factory.evaluation.checkpoint import load_checkpoint

    alone = likelihoods(load_checkpoint(checkpoint), [("Answer:", " sat"), ("Answer:", " ran far")])
    nats = raw["choice_nats"][0].as_py()
    gains = [one.nats - value for one, value in zip(alone, nats, strict=True)]
    assert pmi["predicted"][0].as_py() == gains.index(max(gains))


def test_ties_go_to_the_first_choice_and_are_counted(tmp_path: Path) -> None:
    uri = write(tmp_path / "t.jsonl", [{"query": "q", "choices": ["ab", "ba", "bb"], "gold": 1}])
    table = evaluate_model(Table(by_letter), {"t": MultipleChoice(uri=uri)}, {"t": read_files(uri)})
    row = table.to_pylist()[0]
    assert (row["predicted"], row["tied"], row["value"]) == (0, True, 0.0)
    assert json.loads(table.schema.metadata[b"tasks"])["t"]["ties"] == 1


def test_shuffled_choices_leave_accuracy_unchanged(checkpoint: Path, tmp_path: Path) -> None:
    random.seed(0)
    words = ["cat", "rat sat", "hat on a mat", "the end"]
    rows, mixed = [], []
    for n in range(40):
        order = random.sample(range(4), 4)
        rows.append({"query": f"the {n}", "choices": words, "gold": n % 4})
        mixed.append(rows[-1] | {"choices": [words[at] for at in order], "gold": order.index(n % 4)})
    uris = [write(tmp_path / f"{name}.jsonl", data) for name, data in (("a", rows), ("b", mixed))]
    one, other = (evaluate(checkpoint, {"t": MultipleChoice(uri=uri)}) for uri in uris)
    assert one["value"].to_pylist() == other["value"].to_pylist()


def test_a_uniform_model_is_at_chance_and_its_measures_say_so(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "choices": ["aa", "bb", "cc", "dd"], "gold": n * 7919 % 4} for n in range(400)]
    uri = write(tmp_path / "t.jsonl", rows)
    table = evaluate_model(Table(uniform), {"t": MultipleChoice(uri=uri, normalize="raw")}, {"t": read_files(uri)})
    assert pc.mean(table["value"]).as_py() == pytest.approx(0.25, abs=3 * math.sqrt(0.25 * 0.75 / 400))
    assert pc.mean(table["baseline"]).as_py() == 0.25
    assert table["norm_prob"].to_pylist() == pytest.approx([0.25] * 400)
    assert table["margin"].to_pylist() == pytest.approx([0.0] * 400)
    assert table["bpb_gold"].to_pylist() == pytest.approx([8.0] * 400)


def test_a_continuation_is_right_when_every_token_of_it_is_the_likeliest(checkpoint: Path, tmp_path: Path) -> None:
    from factory.evaluation.checkpoint import load_checkpoint

    model = load_checkpoint(checkpoint)
    letters = [chr(code) for code in range(97, 123)]
    uri = write(tmp_path / "t.jsonl", [{"context": "the cat\n", "continuation": letter} for letter in letters])
    table = evaluate_model(model, {"t": MultipleChoice(uri=uri)}, {"t": read_files(uri)})
    nats = table["nats"].to_pylist()
    assert table["value"].to_pylist().count(1.0) <= 1
    assert all(value == 0.0 or nats[at] == min(nats) for at, value in enumerate(table["value"].to_pylist()))


# --- task files


@pytest.mark.parametrize(
    ("record", "form", "contexts", "continuations", "gold"),
    [
        (
            {"query": "Question: why?", "choices": ["a", "b"], "gold": 1},
            "multiple_choice",
            ("Question: why?\nAnswer:",),
            (" a", " b"),
            1,
        ),
        (
            {"query": "Q: x\nAnswer: ", "choices": ["a", "b"], "gold": 0},
            "multiple_choice",
            ("Q: x\nAnswer: ",),
            ("a", "b"),
            0,
        ),
        (
            {"context_options": ["Ann", "Bob"], "continuation": "ran.", "gold": 1},
            "schema",
            ("Ann", "Bob"),
            (" ran.",),
            1,
        ),
        ({"ctx": "He", "endings": ["ran", "sat"], "label": "1"}, "hellaswag", ("He",), (" ran", " sat"), 1),
        (
            {"question": "Why", "choices": ["a", "b"], "answer": "B", "subject": "law"},
            "mmlu",
            ("Question: Why\nAnswer:",),
            (" a", " b"),
            1,
        ),
        (
            {"question": "Why", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"},
            "arc",
            ("Question: Why\nAnswer:",),
            (" a", " b"),
            1,
        ),
        ({"goal": "Dry", "sol1": "a", "sol2": "b", "label": 0}, "piqa", ("Question: Dry\nAnswer:",), (" a", " b"), 0),
        (
            {"premise": "P.", "choice1": "a", "choice2": "b", "question": "effect", "label": 1},
            "copa",
            ("P.",),
            (" a", " b"),
            1,
        ),
        (
            {"premise": "P.", "choice1": "a", "choice2": "b", "question": "cause", "label": 1},
            "copa",
            ("a", "b"),
            (" P.",),
            1,
        ),
        (
            {"sentence": "X hit _ hard", "option1": "Y", "option2": "Z", "answer": "2"},
            "winogrande",
            ("X hit Y", "X hit Z"),
            (" hard",),
            1,
        ),
        (
            {"question": "is it", "passage": "It is.", "answer": True},
            "boolq",
            ("Passage: It is.\nQuestion: is it\nAnswer:",),
            (" no", " yes"),
            1,
        ),
    ],
)
def test_published_forms_are_recognised_by_their_keys(
    record: dict[str, object], form: str, contexts: tuple[str, ...], continuations: tuple[str, ...], gold: int
) -> None:
    config = MultipleChoice(uri="t.jsonl")
    assert find_form(config, record, "here") == form
    item = read_item(form, config, record, item="t:0", place="here")
    assert tuple(dict.fromkeys(item.contexts)) == contexts
    assert tuple(dict.fromkeys(item.continuations)) == continuations
    assert item.gold == gold


def test_an_unknown_form_names_the_keys_found_and_the_forms_known() -> None:
    with pytest.raises(InputError, match=r"answer, context are of no known form.*hellaswag: ctx, endings, label"):
        find_form(MultipleChoice(uri="t"), {"context": "a", "answer": "b"}, "here")


def test_hidden_labels_are_refused() -> None:
    record = {"ctx": "a", "endings": ["b", "c"], "label": -1}
    with pytest.raises(InputError, match="Hidden labels cannot be scored"):
        read_item("hellaswag", MultipleChoice(uri="t"), record, item="t:0", place="here")


def test_the_good_sentence_of_a_pair_is_not_always_first() -> None:
    config = MultipleChoice(uri="t")
    pairs = [{"sentence_good": f"good {n}", "sentence_bad": f"bad {n}"} for n in range(50)]
    items = [read_item("minimal_pairs", config, pair, item="t", place="here") for pair in pairs]
    assert {item.gold for item in items} == {0, 1}
    assert all(item.continuations[item.gold].startswith("good") for item in items)


def test_a_larger_limit_contains_the_smaller() -> None:
    ids = [f"t:{n}" for n in range(100)]
    assert set(chosen(ids, 10)) < set(chosen(ids, 40)) < set(chosen(ids, 100))


def test_packed_files_read_as_plain_ones_and_damaged_ones_are_errors() -> None:
    plain = b'{"a": 1}\n{"a": "x\xe2\x80\xa8y"}\n'
    zst = zstandard.compress(plain[:9]) + zstandard.compress(plain[9:])
    expected = list(records("t", plain))
    assert len(expected) == 2, "U+2028 does not end a line"
    assert list(records("t", gzip.compress(plain[:9]) + gzip.compress(plain[9:]))) == expected
    assert list(records("t", zst)) == expected
    for cut in (gzip.compress(plain)[:-9], zst[:-6]):
        with pytest.raises(InputError, match="cut short"):
            list(records("t", cut))
    with pytest.raises(InputError, match=r"line 1 \(from 0\) is not JSON"):
        list(records("t", b'{"a": 1}\n{"a":'))


def test_the_digest_pins_content_and_settings_but_not_the_place(tmp_path: Path) -> None:
    task, files = BitsPerByte(uri="a/*.jsonl"), {"x.jsonl": b"1", "y.jsonl": b"2"}
    digest = task_digest(task, files)
    assert digest == task_digest(BitsPerByte(uri="s3://elsewhere/*.jsonl"), dict(reversed(files.items())))
    assert digest != task_digest(task, files | {"y.jsonl": b"3"})
    assert digest != task_digest(BitsPerByte(uri="a/*.jsonl", limit=1), files)


def test_files_come_through_the_callables_that_are_given(checkpoint: Path) -> None:
    stored = {"mem://held/a.jsonl": b'{"text": "the cat"}\n', "mem://held/sub/b.jsonl": b'{"text": "the rat"}\n'}
    table = evaluate(
        checkpoint,
        {"h": BitsPerByte(uri="mem://held/**", domain=None)},
        open_file=lambda uri: io.BytesIO(stored[uri]),
        list_files=lambda uri: list(stored),
    )
    assert table.schema.equals(EVALUATION)
    assert table["item"].to_pylist() == ["a.jsonl:0", "sub/b.jsonl:0"]
    assert table["domain"].to_pylist() == ["a", "b"]


def test_missing_files_and_unknown_tasks_say_what_to_do(checkpoint: Path, tmp_path: Path) -> None:
    for uri in (f"{tmp_path}/none.jsonl", f"{tmp_path}/*.jsonl"):
        with pytest.raises(InputError, match=r"none\.jsonl|no file matches"):
            evaluate(checkpoint, {"h": BitsPerByte(uri=uri)})
    with pytest.raises(FactoryError, match="Did you mean 'bits_per_byte'"):
        find_task("bits_per_bite")


def test_a_task_module_needs_no_torch() -> None:
    import subprocess
    import sys

    modules = "tasks", "runs", "leaderboard", "statistics", "evaluate", "checkpoint"
    code = f"import sys\nfrom factory.evaluation import {', '.join(modules)}\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- real files

SCORED = ("arc_easy", "blimp", "boolq", "copa", "hellaswag", "lambada_openai", "mmlu_sample", "winogrande", "xcopa")


@needs_data
@pytest.mark.parametrize("name", SCORED)
def test_real_task_files_are_scored(checkpoint: Path, name: str) -> None:
    table = evaluate(checkpoint, {name: MultipleChoice(uri=f"{EVAL}/{name}.jsonl.zst", limit=12)})
    assert table.num_rows == 12
    assert table["value"].null_count == 0
    assert set(table["value"].to_pylist()) <= {0.0, 1.0}


@needs_data
def test_every_real_file_is_read_or_said_to_be_of_no_known_form() -> None:
    unknown = set()
    for path in sorted(EVAL.glob("*.jsonl.zst")):
        config = MultipleChoice(uri=str(path))
        rows = [record for _, record in records(path.name, path.read_bytes())]
        try:
            form = find_form(config, rows[0], path.name)
        except InputError:
            unknown.add(path.name.split(".")[0])
            continue
        items = [read_item(form, config, row, item=str(n), place=path.name) for n, row in enumerate(rows)]
        assert all(item.continuations[item.gold] for item in items), form
        assert form in FORMS
    assert unknown == {"gsm8k", "known_overlap", "svamp", "triviaqa", "xquad_sample"}
