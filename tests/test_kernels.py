"""Words, marks and lines as the kernels cut them, against the same definitions written with str and re."""

import io
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.core.registry import find_stage
from factory.kernels import compiled
from factory.kernels.lines import count_lines, count_python_lines, hash_segments
from factory.kernels.pieces import BEGINS_WORD, HAS_LETTER, IS_MARK, cut_unicode, cut_whitespace, describe, pieces_of
from factory.kernels.text import fineweb_punctuation, view_text
from factory.kernels.words import count_words

STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
ODD = "a b Z1 2,.'’_·\n\t#-…•漢かé\u0301\u200d\u200b\u3000ß🙂क्\x00\ufeff।\"”"
TEXTS = st.one_of(st.text(st.sampled_from(ODD), max_size=60), st.text(max_size=60))
SPACES = "".join(chr(code) for code in range(0x3001) if chr(code).isspace()) + "\u200b"
WORD = re.compile(r"ae*|(?:de*,(?=d)|[ldn]e*[.'](?=[ldn])|[ldn]e*)+")


def character_class(character):
    category = unicodedata.category(character)
    if character in SPACES:
        return "s"
    if category[0] in "LN" and re.match(
        "[\u3005-\u3007\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]", character
    ):
        return "a"
    if category[0] == "M" or category == "Cf":
        return "e"
    if character == "." or character == ",":
        return character
    return {"L": "l", "N": "d" if category == "Nd" else "n"}.get(category[0], "'" if character in "'’_·" else "m")


def pieces(text):
    """(text, is it a word) of every piece."""
    classes = "".join(map(character_class, text))
    at = 0
    while at < len(text):
        word = WORD.match(classes, at)
        if classes[at] in "se":
            at += 1
        elif word:
            end = word.end()
            last_run = re.split("[.',]", word.group())[-1].replace("e", "")
            if last_run == "l" and classes[end : end + 1] == "." and classes[end : end + 2] != "..":
                end += 1
            yield text[at:end], True
            at = end
        else:
            run = re.compile(re.escape(text[at]) + "+").match(text, at).group()
            yield run, False
            at += len(run)


def naive_words(cut, text):
    """WordCounts of (text, is it a word) of every piece."""
    words = [piece for piece, is_word in cut if is_word]
    letters = sum(any(map(str.isalpha, piece)) for piece, _ in cut)
    spoken = [piece for piece, _ in cut if any(not fineweb_punctuation()[ord(letter)] for letter in piece)]
    lower = [piece.lower() for piece, _ in cut]
    return [
        *(len(cut), sum(len(piece) for piece, _ in cut), letters),
        *(len(words), sum(map(len, words)), len(spoken), sum(map(len, spoken))),
        sum(unicodedata.category(piece[0])[0] in "LN" for piece, _ in cut),
        *(len(STOP_WORDS.intersection(piece for piece, _ in cut)), sum(map(lower.count, STOP_WORDS))),
        *(text.count("#"), text.count("...") + text.count("…"), text.count(". . .")),
    ]


def naive_lines(text, spaces=SPACES):
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    stripped = [line.strip(spaces) for line in lines]
    written = [line for line in stripped if line]
    return [
        len(lines),
        len(lines) - len(written),
        sum(line.startswith(("•", "-")) for line in written),
        sum(line.startswith(("•", "-", "●", "*")) for line in written),
        sum(line.endswith(("...", "…")) for line in written),
        sum(line.endswith(("...", "…", ". . .")) for line in written),
        sum(line.endswith((".", "!", "?", "'", '"', "’", "”", "…", "।")) for line in written),
        sum(len(line) <= 30 for line in written),
        text.count("\n"),
    ]


def naive_python_lines(text):
    lines = text.splitlines()
    return [
        len(lines),
        sum(line.lstrip().startswith(("•", "-")) for line in lines),
        sum(line.rstrip().endswith(("...", "…")) for line in lines),
    ]


def count_unicode(array):
    counts = count_words(*pieces_of(array, cut_unicode))
    return np.stack(counts, axis=1).tolist()


def view(*texts):
    return view_text(pa.array(texts, pa.large_string()))


def real_texts(folder):
    for path in sorted(folder.glob("*.jsonl.zst")):
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(path.open("rb")), "utf-8", newline="\n")
        for line in itertools.islice(lines, 0, None, 400):
            yield json.loads(line)["text"][:8000]


@settings(deadline=None, max_examples=300)
@given(TEXTS)
def test_words_are_counted_as_their_definition_says(text):
    assert count_unicode(pa.array([text])) == [naive_words(list(pieces(text)), text)]


@settings(deadline=None, max_examples=300)
@given(TEXTS)
def test_what_lies_between_white_space_is_what_str_split_gives(text):
    array = pa.array([text, "the ... end"])
    looked, cut = pieces_of(array, cut_whitespace)
    data = bytes(looked.data)
    words = [data[begin:end].decode() for begin, end in zip(cut.begins, cut.ends, strict=True)]
    assert words == [*text.split(), "the", "...", "end"]
    with_kinds = [(word, any(unicodedata.category(letter)[0] in "LN" for letter in word)) for word in text.split()]
    assert np.stack(count_words(looked, cut), axis=1)[0].tolist() == naive_words(with_kinds, text)


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from(ODD + "●* \x1c\x85\u2028\r"), max_size=80))
def test_lines_are_counted_as_their_definition_says(text):
    def counted(counts):
        return [int(count[0]) for count in counts]

    assert counted(count_lines(view(text), zero_width=True)) == naive_lines(text)
    assert counted(count_lines(view(text), zero_width=False)) == naive_lines(text, None)
    assert counted(count_python_lines(view(text))) == naive_python_lines(text)


@pytest.mark.parametrize("folder", ["corpus", "multilingual"])
def test_real_documents_are_counted_as_the_definitions_say(shared_data, folder):
    texts = list(real_texts(shared_data / folder))
    assert count_unicode(pa.array(texts)) == [naive_words(list(pieces(text)), text) for text in texts]
    lines = np.stack(count_lines(view(*texts), zero_width=True), axis=1)
    python_lines = np.stack(count_python_lines(view(*texts)), axis=1)
    assert python_lines.tolist() == [naive_python_lines(text) for text in texts]
    naive = np.array([naive_lines(text) for text in texts])
    of_any_script = 6  # the naive list of sentence ends is short
    assert np.delete(lines, of_any_script, 1).tolist() == np.delete(naive, of_any_script, 1).tolist()


@settings(deadline=None, max_examples=100)
@given(TEXTS)
def test_equal_pieces_have_equal_hashes_and_no_others(text):
    expected = [piece for piece, _ in pieces(text)]
    _, cut = pieces_of(pa.array([text]), cut_unicode)
    assert cut.starts.tolist() == [0, len(expected)]
    assert cut.lengths.tolist() == [len(piece) for piece in expected]
    assert [a == b for a, b in itertools.combinations(cut.hashes, 2)] == [
        a == b for a, b in itertools.combinations(expected, 2)
    ]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.one_of(st.none(), TEXTS), max_size=4))
def test_pieces_are_described_alike_whether_cut_in_the_same_pass_or_before(texts):
    looked, together = pieces_of(pa.array(texts, pa.string()), cut_unicode)
    apart = describe(looked, cut_unicode(looked))
    assert [column.tolist() for column in together] == [column.tolist() for column in apart]


def test_a_piece_says_whether_it_has_letters_and_how_it_begins():
    _, cut = pieces_of(pa.array(["a1 12 (x) -- １"]), cut_whitespace)
    kinds = [flag & (HAS_LETTER | IS_MARK | BEGINS_WORD) for flag in cut.flags]
    assert kinds == [HAS_LETTER | BEGINS_WORD, BEGINS_WORD, HAS_LETTER, IS_MARK, BEGINS_WORD]


def test_a_batch_is_cut_once_for_all_who_ask():
    asked = []

    def cutter(seen):
        asked.append(seen)
        return cut_whitespace(seen)

    array = pa.array(["a b", "c"])
    first, again = pieces_of(array, cutter), pieces_of(pa.record_batch({"text": array}).column("text"), cutter)
    pieces_of(array, cut_unicode)
    assert first[1] is again[1] is pieces_of(array, cutter)[1]
    assert len(asked) == 1
    assert pieces_of(array[1:], cutter)[1].starts.tolist() == [0, 1]


def test_more_pieces_than_expected_are_cut_all_the_same():
    texts = ["a word", ". " * 5000, None, "x", "., " * 3000]
    for cutter in (cut_unicode, cut_whitespace):
        _, together = pieces_of(pa.array(texts), cutter)
        alone = [pieces_of(pa.array([text], pa.string()), cutter)[1] for text in texts]
        assert np.diff(together.starts).tolist() == [piece.starts[-1] for piece in alone]
        assert together.hashes.tolist() == np.concatenate([piece.hashes for piece in alone]).tolist()


@settings(deadline=None, max_examples=200)
@given(st.text(st.sampled_from("ab \n\t\u200b"), max_size=30))
def test_segments_are_those_of_re_split(text):
    for feeds in (1, 2):
        whole = text if feeds == 1 else text.strip()
        split = re.split(f"\n{{{feeds},}}", whole) if text else []
        stripped = [part.strip() for part in re.split(f"\n{{{feeds},}}", text) if part.strip()]
        for expected, strip in ((split, False), (stripped, True)):
            hashes, lengths, starts = hash_segments(view("first\n\nx", text, "\n"), feeds, stripped=strip)
            rows = slice(starts[1], starts[2])
            assert lengths[rows].tolist() == list(map(len, expected))
            assert len(set(hashes[rows].tolist())) == len(set(expected))


def test_slices_nulls_and_both_widths_of_strings_read_alike():
    texts = ["zero", "one two", None, "", "three three…", "last"]
    expected = [naive_words(list(pieces(text)), text) if text is not None else [0] * 13 for text in texts]
    for kind in (pa.string(), pa.large_string()):
        whole = pa.array(texts, kind)
        assert count_unicode(whole) == expected
        assert count_unicode(whole[1:5]) == expected[1:5]
        assert view_text(whole[1:5]).valid.tolist() == [True, False, True, True]
        assert count_unicode(whole[2:2]) == []


def test_bytes_that_are_no_utf8_are_counted_and_never_read_past():
    generator = random.Random(7)
    data = bytes(generator.choice(b"\x80\xbf\xc3\xe2\xf0\xf4\xff a.\n") for _ in range(4000))
    offsets = np.arange(0, 4001, 5, dtype=np.int64)
    array = pa.Array.from_buffers(pa.large_string(), 800, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    whole = count_unicode(array)
    for row in range(0, 800, 40):
        copy = pa.py_buffer(data[row * 5 : row * 5 + 5])
        alone = pa.Array.from_buffers(pa.large_string(), 1, [None, pa.py_buffer(offsets[:2]), copy])
        assert count_unicode(alone)[0] == whole[row]
        assert whole[row][0] <= 5


@pytest.mark.parametrize("stage", ["word_statistics", "line_statistics", "repetition"])
@pytest.mark.parametrize("unit", ["a ", "the very same line\n", "a\n\n", "x", "é", ".", "\n", "ab.", "-'"])
def test_a_megabyte_of_anything_takes_linear_time(stage, unit):
    found = find_stage("scorer", stage)
    score = found.make(found.config())
    score(pa.record_batch({"text": pa.array(["warm up"], pa.large_string())}))
    batch = pa.record_batch({"text": pa.array([unit * (1_000_000 // len(unit.encode()))], pa.large_string())})
    begin = time.thread_time()
    score(batch)
    assert time.thread_time() - begin < 2


@pytest.mark.parametrize("stage", ["word_statistics", "line_statistics", "repetition"])
@settings(deadline=None, max_examples=50)
@given(texts=st.lists(st.one_of(st.none(), TEXTS), max_size=6))
def test_a_score_does_not_depend_on_the_neighbours(stage, texts):
    found = find_stage("scorer", stage)
    score = found.make(found.config())
    together = score(pa.record_batch({"text": pa.array(texts, pa.large_string())}))
    assert together.schema == pa.schema(found.writes_for(found.config()))
    alone = [score(pa.record_batch({"text": pa.array([text], pa.large_string())})) for text in texts]
    assert together.to_pylist() == [row for batch in alone for row in batch.to_pylist()]


READINGS = "● One - of\n* tWo ... (THE)\n- the . . .\u2028• end… 7\n"


@pytest.mark.parametrize(
    ("stage", "reading", "expected"),
    [
        ("word_statistics", "plain", {"words": 7, "stop_words": 2, "mean_word_length": 18 / 7}),
        ("word_statistics", "datatrove", {"words": 9, "stop_words": 2, "alpha_ratio": 6 / 19}),
        ("word_statistics", "dclm", {"words": 6, "stop_words": 2, "symbol_ratio": 3 / 16, "alpha_ratio": 6 / 16}),
        ("line_statistics", "plain", {"bullet_ratio": 1 / 3, "ellipsis_line_ratio": 0}),
        ("line_statistics", "datatrove", {"bullet_ratio": 2 / 4, "ellipsis_line_ratio": 0}),
        ("line_statistics", "dclm", {"bullet_ratio": 3 / 3, "ellipsis_line_ratio": 0}),
    ],
)
def test_each_reading_counts_what_its_rules_ask_for(stage, reading, expected):
    found = find_stage("scorer", stage)
    config = found.config(reading=reading, words="whitespace" if reading == "dclm" else "unicode")
    row = found.make(config)(pa.record_batch({"text": pa.array([READINGS])})).to_pylist()[0]
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_whoever_waits_for_the_compiler_is_told_once_and_only_then(tmp_path):
    program = "import pyarrow as pa; from factory.kernels.text import view_text; from factory.kernels import lines; "
    program += (
        "lines.count_python_lines(view_text(pa.array(['a']))); lines._count_feeds(*view_text(pa.array(['a']))[:2])"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stderr
        for _ in range(2)
    ]
    assert said[0].count("compiling kernels (once per machine") == 1
    assert said[1] == ""


def test_kept_machine_code_is_not_used_after_another_file_of_the_package_changed(tmp_path):
    import shutil
    import subprocess
    import sys
    from pathlib import Path

    import factory

    for part in ("core", "kernels"):
        shutil.copytree(Path(factory.__file__).parent / part, tmp_path / "factory" / part)
    (tmp_path / "factory" / "__init__.py").touch()
    edit = (
        "import pyarrow as pa\nfrom factory.core.schema import EDITS\nfrom factory.kernels.edits import apply_edits\n"
    )
    edit += "one = {'start': 0, 'end': 1, 'replacement': ''}\n"
    edit += "assert apply_edits(pa.array(['ab'], pa.large_string()), [pa.array([[one]], EDITS)])[0].as_py() == 'b'\n"

    def says():
        done = subprocess.run([sys.executable, "-c", edit], cwd=tmp_path, capture_output=True, text=True, check=True)
        return "compiling kernels" in done.stderr

    says()
    assert not says()
    with (tmp_path / "factory" / "kernels" / "text.py").open("a") as source:
        source.write("# another line\n")
    assert says()


def test_a_kernel_is_compiled_again_when_a_file_it_imports_has_changed_and_not_for_others(tmp_path):
    package = tmp_path / "factory" / "kernels"
    package.mkdir(parents=True)
    for path in (package.parent / "__init__.py", package / "__init__.py"):
        path.touch()
    shutil.copy(compiled.__file__, package)
    (package / "middle.py").write_text("from factory.kernels.deep import CONSTANT\n")
    (package / "top.py").write_text(
        "from factory.kernels.compiled import kernel\nfrom factory.kernels.middle import CONSTANT\n\n\n"
        "@kernel\ndef constant():\n    return CONSTANT\n\n\n"
        "print(constant(), sum(constant.stats.cache_hits.values()))\n"
    )
    answers = []
    for number, other in ((1, "a"), (1, "b"), (2, "b")):
        (package / "deep.py").write_text(f"CONSTANT = {number}\n")
        (package / "other.py").write_text(f"# {other}\n")
        command = [sys.executable, "-c", "import factory.kernels.top"]
        answers.append(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split())
    assert [answer[0] for answer in answers] == ["1", "1", "2"]
    assert [answer[1] for answer in answers] == ["0", "1", "0"]
