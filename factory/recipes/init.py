"""A first recipe for somebody's own files: looked at, so that what is written runs; commented, so that it can be changed."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from factory.core.errors import InputError, suggest
from factory.core.registry import stages
from factory.recipes.checks.checker import LABEL
from factory.recipes.inputs import SNAPSHOT
from factory.recipes.load import check_recipe
from factory.recipes.recipe import Recipe
from factory.recipes.references import matching_files, problems_of
from factory.recipes.yaml import read_yaml

ENDINGS = {
    "warc": (".warc", ".warc.gz"),
    "wet": (".wet", ".warc.wet", ".wet.gz", ".warc.wet.gz"),
    "jsonl": (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".ndjson.gz", ".ndjson.zst"),
    "parquet": (".parquet",),
    "text": (".txt", ".md"),
}
# Names a text column has in well-known corpora, the likeliest first.
TEXT_NAMES = ("text", "content", "body", "raw_content", "article", "document", "markdown")
PEEK_LINES = 50
PEEK_BYTES = 4 << 20
MOST_FILES = 100_000
# How the recipes that ship write their source and how it becomes text.
_SOURCE_LINE = re.compile(r"^(  crawl: )\{use: warc, .*\}$", re.MULTILINE)
_EXTRACT = re.compile(r"^extract:\n(?:  .*\n)+", re.MULTILINE)
BYTES_PER_TOKEN = 4  # of a byte-level BPE on English prose, roughly
# How much of a file's bytes is text in the end: a compressed crawl is mostly markup.
TEXT_SHARE = {"warc": 0.3, "wet": 2.0, "jsonl": 0.9, "parquet": 1.5, "text": 1.0}
PACKED = 3.0  # a compressed JSONL holds about this many times its size
KEPT_SHARE = 0.3  # of the tokens, after filters and deduplication, to be on the safe side
FEWEST_TOKENS, MOST_TOKENS = 20_000, 2_000_000


@dataclass(frozen=True)
class Found:
    """What somebody's files are: the source to read them with, and its settings."""

    uri: str
    use: str
    files: int
    bytes: int
    snapshot: str
    text: str | None = None  # the text column, where there is one
    columns: tuple[str, ...] = ()


def draft(
    directory: str, *, uri: str | None = None, use: str | None = None, name: str | None = None
) -> tuple[str, Found]:
    """A recipe for the files at `uri` (relative to `directory`), or for what lies in it; checked before it is returned."""
    if use is not None and use not in ENDINGS:
        raise InputError(_not_written(use))
    found = look_at(directory, uri, use)
    text = _text(found, name or _name(directory))
    check_recipe(read_yaml(text, "recipe.yaml"), folder=directory)
    return text, found


def _not_written(use: str) -> str:
    if any(stage.name == use for stage in stages("source")):
        known = ", ".join(sorted(ENDINGS))
        return f"'factory init' writes recipes for {known}. docs/sources.md shows the lines for '{use}'."
    return f"No source is named '{use}'.{suggest(use, ENDINGS)}"


def draft_from(
    text: str, directory: str, *, uri: str | None = None, use: str | None = None, data: str | None = None
) -> tuple[str, Found | None, list[str]]:
    """A recipe that ships, for other files; what was found of them, and what else it names that is not there.

    `uri` is read instead of the recipe's own source, `data` is where the paths that begin with `data/` lie. Comments stay.
    """
    if data is not None:
        place = data.rstrip("/")
        text = re.sub(r'"data/', lambda _: json.dumps(f"{place}/")[:-1], text)
    found = None
    if uri is not None:
        if use is not None and use not in ENDINGS:
            raise InputError(_not_written(use))
        found = look_at(directory, uri, use)
        text, changed = _SOURCE_LINE.subn(lambda match: f"{match[1]}{{{_settings(found)}}}", text)
        if changed != 1:
            raise InputError("This recipe has no source on a line of its own. Copy it, and write your source into it.")
        if found.use != "warc":
            text = _EXTRACT.sub("# extract: []  # these files hold text already\n", text)
    recipe = check_recipe(read_yaml(text, "recipe.yaml"), folder=directory)
    return text, found, missing_files(recipe)


def missing_files(recipe: Recipe) -> list[str]:
    """Where a recipe names files that are not there, apart from its sources: the setting's place and the path."""
    named: dict[str, str] = {}
    rules = [rule for experiment in recipe.experiments for rule in experiment.rules]
    for section, uses in (("scorers", recipe.scorers), ("linkers", recipe.linkers), ("filters", rules)):
        for use in uses:
            training = use.stage.train
            samples = training.samples(use.config) if training is not None and not training.ready(use.config) else ()
            paths = [*use.stage.files_for(use.config), *(sample.uri for sample in samples if sample.uri is not None)]
            named.update({f"{section}.{use.label}: {path}": path for path in paths})
    return [place for place, path in named.items() if not _is_there(path, recipe.folder)]


def wrong_files(recipe: Recipe) -> list[str]:
    """What is wrong with the content of files that stages read, where a stage can tell: the setting's place and the problem."""
    rules = [rule for experiment in recipe.experiments for rule in experiment.rules]
    told: dict[str, None] = {}
    for section, uses in (("scorers", recipe.scorers), ("linkers", recipe.linkers), ("filters", rules)):
        for use in uses:
            found = problems_of(use.stage, use.config, recipe.folder)
            told.update(dict.fromkeys(f"{section}.{use.label}: {problem}" for problem in found))
    return list(told)


def _is_there(path: str, folder: str) -> bool:
    try:
        return bool(matching_files(path, folder))
    except InputError:
        return False


def look_at(directory: str, uri: str | None, use: str | None) -> Found:
    """The files that are meant, and how to read them; raises InputError when there are none or several kinds."""
    uri = uri or _own_files(directory, use)
    files = matching_files(uri, directory)
    kind = use or _kind(files, uri)
    usable = [file for file in files if file.lower().endswith(ENDINGS[kind])] or files
    fs = fsspec.core.url_to_fs(usable[0])[0]
    size = sum(int(fs.info(file)["size"]) for file in usable[:MOST_FILES])
    columns, text = _columns(kind, usable[0])
    return Found(uri, kind, len(files), size, _snapshot(uri, files), text, columns)


def _own_files(directory: str, use: str | None) -> str:
    """A glob for the most bytes of one kind below the folder."""
    sizes: dict[tuple[str, str], int] = {}
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in names:
            for kind, endings in ENDINGS.items():
                ending = max((end for end in endings if file.lower().endswith(end)), key=len, default=None)
                if ending and use in (None, kind) and not file.lower().startswith(("readme", "license", "changelog")):
                    below = os.path.relpath(folder, directory)
                    base = "" if below == "." else below.split(os.sep)[0] + "/"
                    deep = "**/" if below.count(os.sep) else ""
                    key = kind, f"{base}{deep}*{ending}"
                    sizes[key] = sizes.get(key, 0) + os.path.getsize(os.path.join(folder, file))
                    break
    if not sizes:
        raise InputError(
            f"No files to read below {directory} ({', '.join(end for ends in ENDINGS.values() for end in ends)}). "
            "Give them: factory init --uri 'data/*.jsonl' --use jsonl; or see all of it work: factory demo DIR."
        )
    return max(sorted(sizes), key=lambda key: sizes[key])[1]


def _kind(files: Sequence[str], uri: str) -> str:
    kinds = {
        kind
        for file in files
        for kind, endings in reversed(ENDINGS.items())
        if file.lower().endswith(endings) and not (kind == "warc" and file.lower().endswith(ENDINGS["wet"]))
    }
    if len(kinds) == 1:
        return kinds.pop()
    found = "are of several kinds: " + ", ".join(sorted(kinds)) if kinds else "are of no kind their names tell"
    raise InputError(f"The {len(files):,} files of '{uri}' {found}. Say which is meant: --use {'|'.join(ENDINGS)}.")


def _snapshot(uri: str, files: Sequence[str]) -> str:
    """A folder each is a snapshot, where the pattern leaves the folder open and its names are usable; else all is one."""
    parents = {file.rsplit("/", 2)[-2] if file.count("/") else "" for file in files}
    open_folder = "*" in os.path.dirname(uri) or len(parents) > 1
    return "{parent}" if open_folder and all(SNAPSHOT.fullmatch(parent) for parent in parents) else "base"


def _columns(kind: str, file: str) -> tuple[tuple[str, ...], str | None]:
    if kind == "parquet":
        with fsspec.open(file, "rb") as stream:
            schema = pq.ParquetFile(stream).schema_arrow
        texts = [
            field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        ]
        return tuple(schema.names), _text_column(file, dict.fromkeys(texts, 0), list(schema.names))
    if kind != "jsonl":
        return (), None
    lengths: dict[str, int] = {}
    names: dict[str, None] = {}
    for record in _records(file):
        names.update(dict.fromkeys(record))
        for key, value in record.items():
            if isinstance(value, str):
                lengths[key] = lengths.get(key, 0) + len(value)
    return tuple(names), _text_column(file, lengths, list(names))


def _records(file: str) -> list[dict[str, Any]]:
    records = []
    with fsspec.open(file, "rb", compression="infer") as stream:
        for line in stream.read(PEEK_BYTES).split(b"\n")[:PEEK_LINES]:
            try:
                record = json.loads(line)
            except ValueError:  # a bad line, or one cut by the peek: `factory run` will say so
                continue
            if isinstance(record, dict):
                records.append(record)
    return records


def _text_column(file: str, lengths: dict[str, int], names: list[str]) -> str:
    known = [name for name in TEXT_NAMES if name in lengths]
    longest = max(lengths, key=lambda name: lengths[name], default=None)
    chosen = known[0] if known else longest
    if chosen is None:
        raise InputError(f"{file} has no column that holds text; it has {', '.join(names) or 'no records'}.")
    return chosen


def _name(directory: str) -> str:
    plain = "".join(char if char.isascii() and char.isalnum() else "_" for char in os.path.basename(directory).lower())
    plain = plain.strip("_")
    return plain if LABEL.fullmatch(plain) else "corpus"


def budget(found: Found) -> int:
    """Tokens to ask for: what will likely be left, rounded to one digit; a small proxy needs no more than MOST_TOKENS."""
    packed = PACKED if found.use == "jsonl" and found.uri.endswith((".gz", ".zst")) else 1.0
    guess = found.bytes * TEXT_SHARE[found.use] * packed / BYTES_PER_TOKEN * KEPT_SHARE
    bounded = int(min(MOST_TOKENS, max(FEWEST_TOKENS, guess)))
    digits: int = 10 ** (len(str(bounded)) - 1)
    return bounded // digits * digits


def _settings(found: Found) -> str:
    settings = [f"use: {found.use}", f"uri: {json.dumps(found.uri)}", f"snapshot: {json.dumps(found.snapshot)}"]
    if found.text not in (None, "text"):
        settings.append(f"text: {json.dumps(found.text)}")
    return ", ".join(settings)


def _text(found: Found, name: str) -> str:
    columns = f"  # columns of the files: {', '.join(found.columns[:12])}\n" if found.columns else ""
    extract = (
        "extract:\n  - {use: resiliparse, main_content: true}  # the text of a page without menus and footers\n"
        if found.use == "warc"
        else "# extract: []  # these files hold text already\n"
    )
    return TEMPLATE.format(
        name=name,
        source=_settings(found),
        columns=columns,
        extract=extract,
        tokens=budget(found),
        files=f"{found.files:,} file{'s' if found.files != 1 else ''}, {found.bytes:,} bytes",
    )


TEMPLATE = """\
# A recipe says what to make of which files. 'factory check' reports every mistake in it at once, 'factory plan' what would
# be done, 'factory run' does it. Change a line and run again: only what the change touches is made anew.
name: {name}
store: .factory  # where everything is kept; s3://bucket/prefix works as well

sources:  # {files}
{columns}  # A snapshot is one crawl, dump or drop: {{parent}} names it after the folder a file lies in.
  main: {{{source}}}

{extract}
scorers:  # numbers about every document; nothing is dropped here
  words: {{use: word_statistics, reading: datatrove}}
  lines: {{use: line_statistics, reading: datatrove}}
  repetition: {{use: repetition}}
  language: {{use: fasttext_language}}  # a small model of 70 languages, made here; name a published one for real work
  # A quality classifier learns from good documents you give it. Put some (JSONL with "text", Parquet, .txt) into references/:
  # quality: {{use: fasttext_quality, positives: references, negatives: main}}

linkers:  # which documents are the same, or nearly
  exact: {{use: exact}}
  # Of what passes these filters; what was kept stays kept when a snapshot is added.
  near: {{use: minhash, scope: incremental, after: [gopher, repetitive]}}

filters:  # every rule is put to every document, and every verdict is kept: 'factory funnel', 'factory explain'
  # english: {{use: in_range, column: language_en, min: 0.65}}
  gopher: {{preset: gopher}}
  repetitive: {{preset: gopher_repetition}}
  duplicate: {{use: is_absent, column: exact_duplicate_of}}
  near_duplicate: {{use: is_absent, column: near_duplicate_of}}

tokenizer: {{vocab_size: 4096, documents: 20000}}
mixture: {{use: natural, tokens: {tokens}, max_epochs: 4}}  # how many tokens a training sees

# The judges: small models trained on each experiment's tokens, several seeds each. 'factory run tokens' stops before them.
proxy: {{scale: nano, seeds: 2}}
# A leaderboard needs held-out documents that are in none of the sources (JSONL with "text" and "domain"):
# evaluate:
#   held_out: {{use: bits_per_byte, uri: "heldout/*.jsonl"}}

base: raw
experiments:  # each is the recipe above with something changed
  raw: {{filters: {{}}}}
  no_dedup: {{filters: {{duplicate: null, near_duplicate: null}}}}
  full: {{}}
"""
