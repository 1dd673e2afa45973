"""Presets and recipes that ship: each loads with the scorers it names, each rule says where it is from, each recipe runs."""

import html
import subprocess
import sys
import zlib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from factory.core.errors import RecipeError
from factory.execution.local import LocalExecutor
from factory.recipes.checks.presets import presets
from factory.recipes.export import export
from factory.recipes.init import draft_from
from factory.recipes.load import check_recipe, load_recipe
from factory.recipes.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

import pass_rates

RECIPES = Path(__file__).parents[1] / "assets" / "recipes"
PUBLISHED = ("fineweb", "fineweb2", "dclm_baseline", "redpajama_v2", "dolma")
# What a scorer cannot do without beside the settings a preset's thresholds hold for.
NEEDED = {"perplexity": {"reference": "wiki.jsonl"}}


def recipe_of(preset: str, folder: str = "/tmp", scorers: dict[str, Any] | None = None) -> Any:
    named = presets()[preset]["scorers"] if scorers is None else scorers
    return check_recipe(
        {
            "name": "one",
            "tokenizer": "none",
            "sources": {"crawl": {"use": "jsonl", "uri": "*.jsonl", "snapshot": "one"}},
            "scorers": {
                stage: {"use": stage, **NEEDED.get(stage, {}), **(settings or {})} for stage, settings in named.items()
            },
            "filters": {"rules": {"preset": preset}},
        },
        folder=folder,
    )


@pytest.mark.parametrize("name", sorted(presets()))
def test_a_preset_loads_with_exactly_the_scorers_it_names(name):
    rules = recipe_of(name).experiments[0].rules
    content = presets()[name]
    assert content["name"] == name
    assert [rule.label for rule in rules] == [f"rules.{label}" for label in content["rules"]]
    read = {rule["column"].split(".")[0] for rule in content["rules"].values()}
    read |= {rule["by"].split(".")[0] for rule in content["rules"].values() if "by" in rule}
    assert read == set(content["scorers"])


@pytest.mark.parametrize("name", sorted(presets()))
def test_every_rule_of_a_preset_says_where_it_is_from(name):
    assert presets()[name]["source"]
    assert all(rule.source for rule in recipe_of(name).experiments[0].rules)


@pytest.mark.parametrize("name", ["refinedweb", "fineweb2/cmn_Hani", "dolma", "fineweb2/fra_Latn"])
def test_what_a_preset_asks_to_add_can_be_added(name):
    with pytest.raises(RecipeError) as told:
        recipe_of(name, scorers={})
    flow = str(told.value).split("Add under scorers: ")[1].rstrip(".")
    added = yaml.safe_load("\n".join(flow.split("; ")))
    assert recipe_of(
        name, scorers={label: {k: v for k, v in use.items() if k != "use"} for label, use in added.items()}
    )


def test_the_values_of_the_handbook_are_those_of_the_presets():
    french = presets()["fineweb2/fra_Latn"]["rules"]
    assert [french[f"duplicate_{n}_grams"]["max"] for n in range(5, 11)] == [0.15, 0.141, 0.131, 0.121, 0.111, 0.1]
    assert [french[f"top_{n}_gram"]["max"] for n in (2, 3, 4)] == [0.161, 0.149, 0.134]
    assert (french["mean_word_length"]["min"], french["mean_word_length"]["max"]) == (2, 11)
    assert len(presets()["fineweb2/fra_Latn"]["scorers"]["stop_words"]["entries"]) == 18
    paper, code = (presets()[name]["rules"]["duplicate_characters"]["max"] for name in ("fineweb_paper", "fineweb"))
    assert (paper, code) == (0.1, 0.01)


def test_the_same_numbers_bound_other_values_in_the_two_readings_of_gopher():
    theirs, ours = presets()["gopher_repetition"]["rules"], presets()["gopher_dclm"]["rules"]
    assert {name: rule["max"] for name, rule in theirs.items()} == {name: ours[name]["max"] for name in theirs}
    assert presets()["gopher_repetition"]["scorers"]["repetition"]["reading"] == "datatrove"
    assert presets()["gopher_dclm"]["scorers"]["repetition"]["reading"] == "dclm"


def test_a_preset_of_ones_own_is_named_by_its_path(tmp_path):
    rule = {"use": "in_range", "column": "word_statistics.words", "min": 7, "source": "mine"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"scorers": {"word_statistics": {}}, "rules": {"long": rule}}))
    (made,) = recipe_of("./own.yaml", str(tmp_path), {"word_statistics": {}}).experiments[0].rules
    assert (made.label, made.config.min, made.source) == ("rules.long", 7, "mine")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "holds no rules"),
        ("rules: {}", "holds no rules"),
        ("rules: {a: {use: in_range}}\nrule: 1", "unknown key 'rule'"),
        ("rules: {Long Words: {use: in_range}}", "labels are small letters"),
        ("rules: {a: {use: in_range}}\nscorers: [words]", "a map of stage"),
        ("rules: {a: 1", "own.yaml, line"),
    ],
)
def test_a_mistake_in_a_preset_of_ones_own_is_told(tmp_path, content, told):
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(RecipeError, match=told):
        recipe_of("own.yaml", str(tmp_path), {})


@pytest.mark.parametrize("name", ["gofer", "./nothing.yaml", 7, ["gopher"]])
def test_a_preset_that_is_not_there_says_so(tmp_path, name):
    with pytest.raises(RecipeError, match=r"filters\.rules\.preset: (no preset is named|.*cannot be read)"):
        recipe_of(name, str(tmp_path), {})


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_is_sound_and_curates_only(name):
    recipe = load_recipe(str(RECIPES / f"{name}.yaml"))
    assert recipe.name == name
    assert recipe.tokenizer is None
    assert all(experiment.rules for experiment in recipe.experiments)


def slice_of(archive: Path, target: Path, every: int) -> None:
    """The first record of an archive, and every so many of the others."""
    data, start, members = archive.read_bytes(), 0, []
    while start < len(data):
        inflate = zlib.decompressobj(31)
        inflate.decompress(data[start:])
        stop = len(data) - len(inflate.unused_data)
        members.append(data[start:stop])
        start = stop
    target.parent.mkdir(parents=True)
    target.write_bytes(b"".join([members[0], *members[1::every]]))


@pytest.fixture(scope="module")
def small_crawl(shared_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    slice_of(shared_data / "warc" / "crawl-2024-10-00000.warc.gz", folder / "crawl" / "2024-10" / "a.warc.gz", 20)
    return folder


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_decides_a_crawl_and_its_books_balance(small_crawl, shared_data, name):
    with published(name, small_crawl, shared_data) as workspace:
        workspace.run()
        for experiment in workspace.recipe.experiments:
            ledger = workspace.need("decisions", experiment.label, "2024-10").ledger
            dropped = sum(ledger["dropped"].values()) + sum(ledger["errors"].values())
            assert ledger["rows"] == ledger["kept"] + dropped > 50
    if name != "fineweb2":  # a small crawl has hardly a page of most languages
        assert ledger["kept"] > 0


def published(name: str, folder: Path, shared_data: Path) -> Workspace:
    text, found, missing = draft_from(
        (RECIPES / f"{name}.yaml").read_text(), str(folder), uri="crawl/*/*.warc.gz", data=str(shared_data)
    )
    assert found is not None
    assert found.snapshot == "{parent}"
    assert not missing
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return Workspace(load_recipe(str(path)), LocalExecutor(1))  # one store: what recipes share is made once


@pytest.mark.parametrize(("name", "linker"), [("dolma", "paragraphs"), ("redpajama_v2", "repeated")])
def test_what_a_published_recipe_exports_has_no_line_twice(small_crawl, shared_data, name, linker):
    with published(name, small_crawl, shared_data) as workspace:
        workspace.run([f"links/{linker}", "decisions"])
        corpus = export(workspace, workspace.recipe.base, str(small_crawl / f"{name} corpus"))
        assert workspace.need("links", linker, "2024-10").notes["removed_bytes"] > 0
    files = [small_crawl / f"{name} corpus" / file["path"] for file in corpus["files"]]
    texts = [text for path in files for text in pq.read_table(path).column("text").to_pylist()]
    # Lines of code stay wherever they are.
    lines = Counter(line.strip() for text in texts if "```" not in text for line in text.split("\n") if line.strip())
    assert len(lines) > 500
    assert [line for line, copies in lines.items() if copies > 1] == []


def test_a_recipe_for_other_files_says_what_it_still_lacks(tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"body": "One sentence is enough to be looked at."}\n')
    text, found, missing = draft_from((RECIPES / "dclm_baseline.yaml").read_text(), str(tmp_path), uri="*.jsonl")
    assert (found.use, found.text) == ("jsonl", "body")
    assert missing == ["scorers.quality: data/corpus/instruction_qa.jsonl.zst"]
    made = yaml.safe_load(text)
    assert made["sources"]["crawl"] == {"use": "jsonl", "uri": "*.jsonl", "snapshot": "base", "text": "body"}
    assert "extract" not in made


def test_the_command_writes_a_published_recipe_for_ones_own_files(tmp_path):
    (tmp_path / "a.warc.gz").write_bytes(b"")
    command = [sys.executable, "-m", "factory.cli.main", "init", "web", "--from"]
    done = subprocess.run(
        [*command, "dclm_baseline", "--uri", "*.warc.gz"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "Not there yet: scorers.quality: data/corpus/instruction_qa.jsonl.zst" in done.stdout
    assert load_recipe(str(tmp_path / "web" / "recipe.yaml")).sources[0].uri == "../*.warc.gz"
    wrong = subprocess.run([*command, "finweb"], cwd=tmp_path / "web", capture_output=True, text=True, check=False)
    assert (wrong.returncode, "Did you mean 'fineweb'" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    "preset", ["gopher+per_word", "gopher_repetition", "c4", "fineweb", "refinedweb", "dolma", "yi"]
)
def test_books_are_kept(shared_data, preset):
    kept, failing = pass_rates.rates(books(shared_data), preset)
    assert kept >= (0.965 if preset == "yi" else 0.97), failing


@pytest.mark.parametrize("preset", ["gopher+per_word", "gopher_repetition", "c4", "fineweb", "dolma"])
def test_wikipedia_is_kept_once_its_tokens_are_joined(shared_data, preset):
    kept, failing = pass_rates.rates(pass_rates.corpus(shared_data, "wikipedia, joined"), preset)
    assert kept >= 0.97, failing


@pytest.mark.parametrize("language", ["fra_Latn", "spa_Latn", "rus_Cyrl", "cmn_Hani", "hin_Deva"])
def test_text_of_a_language_is_kept_by_its_rules(shared_data, language):
    texts = [html.unescape(text) for text in pass_rates.documents(shared_data, pass_rates.LANGUAGES[language])]
    kept, failing = pass_rates.rates(texts, f"fineweb2/{language}")
    assert kept >= 0.85, failing


@cache
def books(shared_data: Path) -> list[str]:
    return pass_rates.corpus(shared_data, "books")[::3]
