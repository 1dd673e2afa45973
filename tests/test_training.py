"""Training a proxy: tokenizer, data order, schedules, scales, checkpoints and the loop, on models of a few thousand weights."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.core.errors import FactoryError, InputError
from factory.storage.tokens import TokenFile, TokenWriter
from factory.training.flops import exact_flops, simple_flops
from factory.training.guard import Guard
from factory.training.loader import TokenStream, permute
from factory.training.machine import Machine
from factory.training.order import StreamOrder
from factory.training.proxy import check_tokens, reproducible_part, train_proxy
from factory.training.scales import SCALES, find_scale
from factory.training.schedule import learning_rate
from factory.training.tokenizer import END_OF_TEXT, Encoder, train_tokenizer

TINY = replace(
    SCALES["nano"],
    name="tiny",
    width=32,
    layers=2,
    heads=2,
    hidden=64,
    context=16,
    batch=4,
    warmup_steps=2,
    peak_lr=1e-2,
)
# Real text that is on every machine: a module of the standard library, cut at its empty lines.
TEXTS = [text for text in Path(os.__file__).read_text(encoding="utf-8").split("\n\n") if text]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer(TEXTS, vocab_size=384, path=path)
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory, tokenizer):
    prefix = tmp_path_factory.mktemp("tokens") / "part"
    encoder = Encoder(tokenizer)
    with TokenWriter(prefix, encoder.dtype) as writer:
        writer.append(*encoder.encode(pa.array(TEXTS)))
    return prefix


@pytest.fixture
def proxy(tmp_path, tokenizer, corpus):
    def run(name="run", steps=20, scale=TINY, seed=1, tokens=corpus, repeats=None, every=None, **changes):
        file = TokenFile(tokens)
        check_tokens(file, Encoder(tokenizer))
        stream = TokenStream(file, repeats, context=scale.context, seed=seed)
        asked = {"order": StreamOrder(stream, batch=scale.batch, steps=steps), "tokenizer_path": tokenizer}
        asked |= {"scale": scale, "seed": seed, "out_dir": tmp_path / name}
        asked |= {"machine": Machine(device="cpu", checkpoint_every=every)}
        return train_proxy(**(asked | changes))

    return run


class Killed(BaseException):
    """Ends a run the way a signal would: nothing of ours catches it."""


def kill_at(step):
    def report(message):
        if message.get("step") == step and message["event"] == "step":
            raise Killed

    return report


# --- tokenizer


def test_the_same_texts_give_the_same_tokenizer_bytes_on_any_number_of_threads(tmp_path, tokenizer):
    code = (
        "import os, sys; from pathlib import Path; from factory.training.tokenizer import train_tokenizer;"
        "texts = [t for t in Path(os.__file__).read_text(encoding='utf-8').split('\\n\\n') if t];"
        "train_tokenizer(iter(texts), vocab_size=384, path=sys.argv[1])"
    )
    for threads in ("1", "3"):
        environment = {**os.environ, "RAYON_NUM_THREADS": threads}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / threads)], check=True, env=environment)
        assert (tmp_path / threads).read_bytes() == tokenizer.read_bytes()


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_comes_back_as_it_was(tokenizer, text):
    encoder = Encoder(tokenizer)
    ids, lengths = encoder.encode(pa.array([text]))
    assert encoder.decode(ids[:-1]) == text
    assert (ids[-1], lengths.tolist()) == (encoder.eos_id, [len(ids)])


def test_a_document_is_encoded_the_same_whatever_stands_beside_it(tokenizer):
    encoder = Encoder(tokenizer)
    ids, lengths = encoder.encode(pa.array(TEXTS[:50]))
    alone = [encoder.encode(pa.array([text]))[0] for text in TEXTS[:50]]
    assert np.array_equal(ids, np.concatenate(alone))
    assert lengths.tolist() == [len(one) for one in alone]


def test_special_token_text_inside_a_document_is_text(tokenizer):
    encoder = Encoder(tokenizer)
    ids, _ = encoder.encode(pa.array([f"a {END_OF_TEXT} b", ""]))
    assert (ids == encoder.eos_id).tolist() == [False] * (len(ids) - 2) + [True, True]
    assert encoder.decode(ids[:-2]) == f"a {END_OF_TEXT} b"


def test_a_vocabulary_below_the_bytes_and_a_corpus_without_text_are_refused(tmp_path):
    with pytest.raises(FactoryError, match="at least 257 needed"):
        train_tokenizer(TEXTS, vocab_size=100, path=tmp_path / "t.json")
    with pytest.raises(InputError, match="no text to learn from"):
        train_tokenizer(iter(["", ""]), vocab_size=300, path=tmp_path / "t.json")
    assert list(tmp_path.iterdir()) == []


def foreign_tokenizer(path, *, vocabulary=("a", "b"), specials=(), adds=None, normalizer=None):
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token=vocabulary[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in specials])
    if adds:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{adds} $A", special_tokens=[(adds, tokenizer.token_to_id(adds))]
        )
    if normalizer:
        tokenizer.normalizer = getattr(normalizers, normalizer)()
    tokenizer.save(str(path))
    return path


def test_a_tokenizer_without_the_asked_eos_is_refused_with_what_it_has(tmp_path):
    path = foreign_tokenizer(tmp_path / "t.json", specials=["<pad>"])
    with pytest.raises(FactoryError, match=r"eos: true asked of .* names none\. Special tokens it has: <pad>"):
        Encoder(path)
    assert Encoder(path, eos=False).encode(pa.array(["a b"]))[0].tolist() == [0, 1]


def test_a_named_eos_that_does_not_exist_is_refused(tmp_path):
    foreign_tokenizer(tmp_path / "tokenizer.json", specials=["</s>"])
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<end>"}}))
    with pytest.raises(FactoryError, match="'<end>' is not in its vocabulary"):
        Encoder(tmp_path)


def test_a_tokenizer_that_adds_bos_itself_is_framed_once_and_never_silently_dropped(tmp_path):
    path = foreign_tokenizer(tmp_path / "t.json", specials=["<s>", "</s>"], adds="<s>")
    with pytest.raises(FactoryError, match="puts '<s>' around every text itself"):
        Encoder(path)
    assert Encoder(path, bos=True).encode(pa.array(["a b"]))[0].tolist() == [2, 0, 1, 3]


def test_one_token_cannot_be_bos_and_eos_at_once(tokenizer):
    with pytest.raises(FactoryError, match="two of them would stand between documents"):
        Encoder(tokenizer, bos=True, eos=True)


def test_a_vocabulary_beyond_uint16_is_refused_when_uint16_is_asked(tmp_path):
    path = foreign_tokenizer(tmp_path / "t.json", vocabulary=[f"w{i}" for i in range(65_600)])
    with pytest.raises(FactoryError, match=r"uint16 asked, and the vocabulary has 65,600 entries"):
        Encoder(path, eos=False, dtype="uint16")
    assert Encoder(path, eos=False).contract()["dtype"] == "int32"


def test_a_tokenizer_that_loses_text_is_found_with_the_document(tmp_path, tokenizer):
    assert Encoder(tokenizer).check_round_trip(enumerate(TEXTS)) == len(TEXTS)
    lossy = Encoder(foreign_tokenizer(tmp_path / "t.json", normalizer="Lowercase"), eos=False)
    with pytest.raises(FactoryError, match="document doc-7 changes at character 0: 'B a' comes back as 'b a'"):
        lossy.check_round_trip([("doc-3", "a b"), ("doc-7", "B a")])


def test_a_folder_without_a_tokenizer_says_what_it_holds(tmp_path):
    (tmp_path / "vocab.txt").touch()
    with pytest.raises(InputError, match=r"does not exist \(found: vocab\.txt\)"):
        Encoder(tmp_path)


# --- data order


@pytest.mark.parametrize("count", [1, 2, 97, 4096, 100_003])
def test_the_permutation_is_a_bijection(count):
    order = permute(np.arange(count), count, key=7)
    assert np.array_equal(np.sort(order), np.arange(count))
    assert count < 97 or not np.array_equal(order, permute(np.arange(count), count, key=8))


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    repeats=st.lists(st.integers(0, 3), min_size=12, max_size=12),
    context=st.integers(1, 6),
)
def test_every_token_is_read_exactly_repeats_times_but_for_the_tail(tmp_path_factory, lengths, repeats, context):
    """Empty documents, documents longer than the context and exact multiples included."""
    prefix = tmp_path_factory.mktemp("stream") / "part"
    with TokenWriter(prefix, "int32") as writer:
        writer.append(np.arange(sum(lengths)), lengths)
    file = TokenFile(prefix)
    repeats = np.array(repeats[: len(lengths)])
    stream = TokenStream(file, repeats, context=context, seed=3)
    wanted = np.repeat(repeats, lengths)
    rows = stream.sequences(np.arange(len(stream)))
    read = np.bincount(rows[:, :-1].ravel(), minlength=sum(lengths))
    assert (read <= wanted).all()
    assert wanted.sum() - read.sum() == stream.tokens - len(stream) * context <= context
    # The last column is the input that follows: targets are the stream moved by one.
    starts = [stream.span(position)[0] for position in range(len(stream))]
    whole = [_token_at(stream, file, offset) for offset in range(stream.tokens)]
    assert all(row.tolist() == whole[s : s + context + 1] for row, s in zip(rows, starts, strict=True))


def _token_at(stream, file, offset):
    """The slow and obvious way: which document, which pass, how far in."""
    document, number = stream.locate(offset)
    first = next(o for o in range(stream.tokens) if stream.locate(o) == (document, number))
    return int(file.document(document)[offset - first])


def test_batches_do_not_depend_on_the_number_of_readers_or_where_reading_began(corpus):
    stream = TokenStream(TokenFile(corpus), None, context=16, seed=5)
    whole = stream.batch(0, 24)
    again = TokenStream(TokenFile(corpus), None, context=16, seed=5)
    assert np.array_equal(whole[8:], again.batch(8, 16))
    for world in (2, 4):
        shares = [again.batch(0, 24, rank=rank, world=world) for rank in range(world)]
        assert np.array_equal(whole, np.stack(shares, axis=1).reshape(whole.shape))


def test_another_seed_is_another_order_of_the_same_sequences(corpus):
    one, two = (TokenStream(TokenFile(corpus), None, context=16, seed=seed) for seed in (1, 2))
    everything = np.arange(len(one))
    a, b = one.sequences(everything), two.sequences(everything)
    assert not np.array_equal(a, b)
    assert sorted(map(tuple, a.tolist())) == sorted(map(tuple, b.tolist()))


def test_repeat_counts_of_another_file_are_refused(corpus):
    with pytest.raises(FactoryError, match="2 repeat counts for the"):
        TokenStream(TokenFile(corpus), [1, 1], context=16, seed=0)


# --- schedules and scales


def test_learning_rates_are_the_published_formulas():
    wsd = replace(TINY, schedule="wsd", decay_share=0.1, warmup_steps=100, peak_lr=1.0, floor_lr=0.0)
    assert [learning_rate(wsd, n, 1000) for n in (0, 99, 500, 950, 999)] == pytest.approx(
        [0.01, 1, 1, 0.5, 0.01], abs=1e-12
    )
    cosine = replace(wsd, schedule="cosine", floor_lr=0.1)
    assert [learning_rate(cosine, n, 1000) for n in (0, 100, 550, 1000)] == pytest.approx(
        [0.01, 1, 0.55, 0.1], abs=1e-12
    )
    linear = replace(wsd, schedule="linear")
    assert [learning_rate(linear, n, 1000) for n in (100, 550, 999)] == pytest.approx([1, 0.5, 1 / 900], abs=1e-12)


@pytest.mark.parametrize("name", ["tiny", "micro", "datadecide_90m", "dclm_7b_1x"])
def test_the_parameter_formula_counts_what_the_model_has(name):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from factory.training.model import model_config

    scale = SCALES[name]
    with torch.device("meta"):
        config = AutoConfig.for_model(**model_config(scale, vocabulary=2048, bos_id=None, eos_id=0).values)
        model = AutoModelForCausalLM.from_config(config)
    assert sum(p.numel() for p in model.parameters()) == scale.parameters(2048).total


PINNED = {
    "pico": (237_888, 106_816),
    "tiny": (1_041_536, 779_392),
    "nano": (639_616, 377_472),
    "micro": (5_345_280, 4_820_992),
    "datadecide_4m": (787_648, 525_504),
    "datadecide_6m": (1_574_688, 1_181_472),
    "datadecide_8m": (2_623_872, 2_099_584),
    "datadecide_10m": (3_246_768, 2_656_944),
    "datadecide_14m": (5_508_672, 4_722_240),
    "datadecide_16m": (6_393_712, 5_541_744),
    "datadecide_20m": (10_230_720, 9_444_288),
    "datadecide_60m": (39_335_296, 37_762_432),
    "datadecide_90m": (73_550_224, 71_387_536),
    "datadecide_150m": (116_412_672, 113_266_944),
    "datadecide_300m": (272_665_600, 268_471_296),
    "datadecide_530m": (467_974_080, 462_469_056),
    "datadecide_750m": (610_324_992, 604_033_536),
    "datadecide_1b": (1_082_202_112, 1_073_813_504),
    "olmo_190m": (116_412_672, 113_266_944),
    "olmo_370m": (272_665_600, 268_471_296),
    "olmo_760m": (610_324_992, 604_033_536),
    "olmo_1b": (1_082_202_112, 1_073_813_504),
    "olmo_3b": (2_849_097_472, 2_835_465_984),
    "dclm_400m_1x": (411_622_400, 308_337_664),
    "dclm_1b_1x": (1_439_801_344, 1_233_231_872),
    "dclm_3b_1x": (2_795_937_280, 2_537_725_440),
    "dclm_7b_1x": (6_889_418_752, 6_476_279_808),
    "dclm_7b_2x": (6_889_418_752, 6_476_279_808),
}


def test_parameter_counts_of_the_scales_are_pinned():
    counts = {name: scale.parameters(2048) for name, scale in SCALES.items()}
    assert {name: (count.total, count.non_embedding) for name, count in counts.items()} == PINNED


@pytest.mark.parametrize(
    ("name", "published", "rounded", "flops"),
    [
        ("dclm_400m_1x", 411_616_256, 412e6, 2.0e19),
        ("dclm_1b_1x", 1_439_795_200, 1.4e9, 2.4e20),
        ("dclm_3b_1x", 2_795_932_160, 2.8e9, 9.4e20),
        ("dclm_7b_1x", 6_889_410_560, 6.9e9, 5.7e21),
        ("dclm_7b_2x", 6_889_410_560, 6.9e9, 1.14e22),
    ],
)
def test_dclm_scales_have_the_published_sizes_and_costs(name, published, rounded, flops):
    """The paper's FLOPs follow from its rounded sizes, and 1.4 for 1.44 billion is 2.8 % less."""
    scale = SCALES[name]
    assert scale.parameters(50_277).total == pytest.approx(published, rel=1e-4)
    assert 6 * rounded * scale.tokens == pytest.approx(flops, rel=0.02)
    assert simple_flops(scale, 50_277, scale.tokens) == pytest.approx(6 * published * scale.tokens, rel=1e-4)
    assert scale.tokens / (2 if name.endswith("2x") else 1) == pytest.approx(20 * published, rel=0.001)


def test_exact_flops_count_attention_and_the_head_once():
    p3 = replace(TINY, width=128, layers=4, heads=4, hidden=341, context=256)
    assert exact_flops(p3, 2048, 1) == pytest.approx(7.0e6, rel=0.02)


def test_an_unknown_scale_is_refused_with_the_nearest_name():
    with pytest.raises(FactoryError, match=r"No scale is named 'nan0'\. Did you mean 'nano'"):
        find_scale("nan0")


def test_a_tokenizer_larger_than_a_scales_embedding_is_refused():
    with pytest.raises(FactoryError, match="50,432 token embeddings and the tokenizer 100,000"):
        SCALES["dclm_400m_1x"].rows(100_000)


# --- training


def test_a_run_starts_at_the_entropy_of_guessing_and_learns(proxy):
    record = proxy(steps=120)
    assert record["first_loss"] == pytest.approx(math.log(384), abs=0.1)
    assert record["loss"] < record["first_loss"] - 1
    assert (record["valid"], record["steps"], record["tokens_seen"]) == (True, 120, 120 * 64)


def test_a_model_learns_one_batch_by_heart(proxy, tmp_path, tokenizer):
    encoder = Encoder(tokenizer)
    with TokenWriter(tmp_path / "one", encoder.dtype) as writer:
        writer.append(encoder.encode(pa.array(TEXTS[1:3]))[0][:64], [64])
    # 64 tokens are four sequences of 16, so each pass over them is the same batch.
    record = proxy(tokens=tmp_path / "one", repeats=[202], steps=200, scale=replace(TINY, z_loss=0.0, weight_decay=0.0))
    assert record["loss"] < 0.05


def test_the_same_run_twice_gives_the_same_weights_and_another_seed_gives_others(proxy):
    one, two, other = proxy("one"), proxy("two"), proxy("other", seed=2)
    assert reproducible_part(one) == reproducible_part(two)
    assert len({one["model_digest"], other["model_digest"]}) == 2


def test_a_killed_run_goes_on_to_the_same_bits(proxy, tmp_path):
    undisturbed = proxy("undisturbed")
    with pytest.raises(Killed):
        proxy("killed", every=5, report=kill_at(12))
    seen = []
    resumed = proxy("killed", every=5, report=seen.append)
    assert seen[0] == {"event": "resumed", "step": 10}
    assert reproducible_part(resumed) == reproducible_part(undisturbed)
    weights = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("undisturbed", "killed")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("damaged", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_truncated_checkpoint_is_passed_over_for_the_one_before(proxy, tmp_path, damaged):
    with pytest.raises(Killed):
        proxy("killed", every=5, report=kill_at(12))
    file = tmp_path / "killed" / "checkpoints" / "step-0000000010" / damaged
    os.truncate(file, file.stat().st_size // 2)
    seen = []
    resumed = proxy("killed", every=5, report=seen.append)
    assert seen[0]["event"] == "checkpoint_damaged"
    assert damaged in seen[0]["problem"]
    assert seen[1] == {"event": "resumed", "step": 5}
    assert reproducible_part(resumed) == reproducible_part(proxy("undisturbed"))


def test_a_finished_run_is_not_trained_again(proxy):
    first = proxy()
    seen = []
    assert proxy(report=seen.append) == first
    assert seen == []


def test_a_folder_of_another_run_is_refused(proxy):
    with pytest.raises(Killed):
        proxy(every=5, report=kill_at(7))
    with pytest.raises(FactoryError, match=r"holds another run \(its order_digest, seed differ\)"):
        proxy(seed=9)


def test_a_model_loads_in_transformers_and_says_the_same(proxy, tmp_path, tokenizer):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from factory.training.model import weights_digest

    logging.disable_progress_bar()
    for name, scale in {"llama": TINY, "qk_norm": replace(TINY, qk_norm=True, tied=False)}.items():
        record = proxy(name, scale=scale)
        model, ours = AutoModelForCausalLM.from_pretrained(tmp_path / name / "model"), Encoder(tokenizer)
        assert weights_digest(model) == record["model_digest"]
        theirs = AutoTokenizer.from_pretrained(tmp_path / name / "model")
        ids = ours.encode(pa.array(TEXTS[:3]))[0]
        texts = [[*theirs.encode(text, add_special_tokens=False), theirs.eos_token_id] for text in TEXTS[:3]]
        assert ids.tolist() == [*chain(*texts)]
        with torch.no_grad():
            logits = model(torch.from_numpy(ids[None, :16].astype(np.int64))).logits
        assert logits.isfinite().all()


def test_a_run_that_breaks_down_is_marked_and_leaves_no_model(proxy, tmp_path):
    record = proxy(scale=replace(TINY, peak_lr=1e30, clip=1e30), steps=40)
    assert (record["status"], record["valid"], record["model_digest"]) == ("invalid", False, None)
    assert "at step" in record["reason"]
    assert not (tmp_path / "run" / "model").exists()


def test_the_guard_sees_what_is_no_number_and_what_does_not_come_back():
    assert Guard().problem(3, math.nan, 1.0) == "the loss is nan at step 3"
    assert Guard().problem(3, 2.0, math.inf) == "the gradient norm is inf at step 3"
    noise = np.random.default_rng(0).normal(0, 0.1, 200)
    guard = Guard()
    falling = [guard.problem(step, 7 * 0.99**step + wiggle, 1.0) for step, wiggle in enumerate(noise)]
    assert falling == [None] * 200
    assert [guard.problem(200 + i, 9.0, 1.0) is None for i in range(2)] == [True, True]
    assert guard.problem(202, 9.0, 1.0).startswith("the loss is 9.000 at step 202")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 2}, "are 2 steps at scale tiny, which warms up for 2. Ask for at least 192 tokens"),
        ({"steps": 100_000}, "6,400,000 tokens asked, and the mixture gives"),
        ({"machine": Machine(device="tpu")}, "device 'tpu' is not one of auto, cpu, cuda"),
    ],
)
def test_a_run_that_cannot_be_is_refused(proxy, changes, message):
    with pytest.raises(FactoryError) as error:
        proxy(**changes)
    assert message in str(error.value)


def test_tokens_of_another_tokenizer_are_refused(proxy, tmp_path):
    with TokenWriter(tmp_path / "wide", "uint16") as writer:
        writer.append(np.full(4_000, 9_999, dtype=np.uint16), [4_000])
    with pytest.raises(FactoryError, match=r"ids up to 9,999\) was not made by"):
        proxy(tokens=tmp_path / "wide")
