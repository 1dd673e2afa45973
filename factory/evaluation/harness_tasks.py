"""Tasks declared as for lm-evaluation-harness (0.4): the YAML is read, and asked as the harness asks it, without its code.

In: a declaration of local files (`dataset_path: json`) and their records. Out: settings, items, rows and the harness's metrics.
What holds: the same texts are scored as the harness scores, in its order of examples (Random(1234)); a key that would run
code or is not read is refused by name; hidden labels are refused, where the harness counts them as wrong answers.
"""

import math
import os
import posixpath
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from factory.core.config import config_problems
from factory.core.errors import InputError, suggest
from factory.evaluation.forms import Item
from factory.evaluation.likelihood import Model, Progress, likelihoods
from factory.evaluation.multiple_choice import item_row, renormalize, score_items
from factory.evaluation.records import Record, records
from factory.evaluation.tasks import Harness, Normalization
from factory.evaluation.templates import check_template, render, value

MAX_BYTES = 1 << 20
MAX_INCLUDES = 8
SEED = 1234  # of the examples, the harness's own

METRICS: Mapping[str, tuple[str, ...]] = {
    "multiple_choice": ("acc", "acc_norm", "acc_bytes", "acc_mutual_info"),
    "loglikelihood": ("acc", "perplexity"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
}
_DEFAULT = {"multiple_choice": ("acc", "acc_norm"), "loglikelihood": ("perplexity", "acc")}
_NORMALIZE: Mapping[str, Normalization] = {
    "acc": "raw", "acc_norm": "char", "acc_bytes": "bytes", "acc_mutual_info": "pmi",
}  # fmt: skip

_CODE = ("custom_dataset", "process_docs", "process_results", "unsafe_code")
_UNREAD: Mapping[str, str] = {
    **dict.fromkeys(_CODE, "it is code, and no task file runs code here: prepare the file, or name its columns"),
    "use_prompt": "prompts of other libraries are not looked up: write the template into doc_to_text",
    "doc_to_image": "images are not read",
    "doc_to_audio": "audio is not read",
    "filter_list": "answers are scored, not generated, so there is nothing to filter",
    "generation_kwargs": "answers are scored, not generated",
    "gen_prefix": "write it into doc_to_text",
    "dataset_name": "local files have no configurations",
    "group": "a file declares one task",
    "task_list": "a file declares one task",
}
_IGNORED = ("task_alias", "tag", "should_decontaminate", "doc_to_decontamination_query", "metadata")
_READ = (
    "task", "include", "dataset_path", "dataset_kwargs", "training_split", "validation_split", "test_split",
    "fewshot_split", "fewshot_config", "num_fewshot", "output_type", "doc_to_text", "doc_to_target", "doc_to_choice",
    "description", "target_delimiter", "fewshot_delimiter", "metric_list", "repeats",
)  # fmt: skip

OpenText = Callable[[str], str]


def open_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read(MAX_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the declaration cannot be read as text: {error}.") from error
    if len(text) > MAX_BYTES:
        raise InputError(f"{path}: more than {MAX_BYTES:,} characters, which no declaration has.")
    return text


def read_declaration(path: str, read: OpenText = open_text) -> tuple[str, Harness]:
    """The name and settings of the task a YAML file declares. Paths start at its folder."""
    return declared(load_yaml(path, read), path)


def declared(data: Mapping[str, Any], path: str) -> tuple[str, Harness]:
    """The same for what the file holds, its includes merged."""
    _check_keys(data, path)
    if data.get("dataset_path") != "json":
        raise InputError(
            f"{path}: dataset_path is {data.get('dataset_path')!r}. Only local files are read: `dataset_path: json` with "
            "`dataset_kwargs: {data_files: {test: FILE}}`."
        )
    name = data.get("task")
    if not isinstance(name, str) or not name:
        raise InputError(f"{path}: 'task', the name, is required.")
    settings = _settings(data, path)
    try:
        made = Harness(**settings)
    except ValidationError as error:
        raise InputError("; ".join(config_problems(path, error, Harness))) from error
    for key in ("doc_to_text", "doc_to_target", "doc_to_choice", "description"):
        template = getattr(made, key)
        if isinstance(template, str):
            check_template(template, f"{path}, {key}")
    return name, made


def load_yaml(path: str, read: OpenText = open_text, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a declaration and those it includes hold; its own keys win, and of the included the last."""
    if path in seen or len(seen) > MAX_INCLUDES:
        raise InputError(f"{path}: included by itself, or {MAX_INCLUDES} deep: {' -> '.join((*seen, path))}.")
    text = read(path)
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise InputError(f"{path}: aliases (*name) are not read. Write the value, or use include.")
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        why = " `!function` names code, and no task file runs code here." if "!function" in str(error) else ""
        raise InputError(f"{path}: not readable as plain YAML: {error}.{why}") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise InputError(f"{path}: a map of keys is wanted, not {type(found).__name__}.")
    named = found.pop("include", [])
    merged: dict[str, Any] = {}
    for one in named if isinstance(named, list) else [named]:
        if not isinstance(one, str):
            raise InputError(f"{path}: include names {one!r:.60}; a path is wanted.")
        merged |= load_yaml(posixpath.join(posixpath.dirname(path), one), read, (*seen, path))
    return merged | found


def _check_keys(data: Mapping[str, Any], path: str) -> None:
    for key, given in data.items():
        if key in _UNREAD and given not in (None, False, [], {}):
            raise InputError(f"{path}: '{key}' is not read: {_UNREAD[key]}.")
        if key not in (*_READ, *_IGNORED, *_UNREAD):
            raise InputError(f"{path}: unknown key '{key}'.{suggest(key, (*_READ, *_IGNORED))}")
    if data.get("output_type") not in METRICS:
        raise InputError(
            f"{path}: output_type is {data.get('output_type')!r}. What is scored here: {', '.join(METRICS)}."
        )
    if data.get("repeats", 1) != 1:
        raise InputError(f"{path}: repeats is {data['repeats']}; scoring twice gives the same twice.")


def _settings(data: Mapping[str, Any], path: str) -> dict[str, Any]:
    files = _files(data, path)
    split = data.get("test_split") or data.get("validation_split")
    output = data["output_type"]
    made: dict[str, Any] = {
        "uri": _file(files, split, "test_split", path),
        "output_type": output,
        "metrics": _metrics(data.get("metric_list"), output, path),
        "few_shot": data.get("num_fewshot") or 0,
    }
    for key in ("doc_to_text", "doc_to_target", "doc_to_choice", "description"):
        if data.get(key) is not None:
            made[key] = list(data[key].values()) if isinstance(data[key], dict) else data[key]
    made |= {key: data[key] for key in ("target_delimiter", "fewshot_delimiter") if key in data}
    if output == "multiple_choice" and "doc_to_choice" not in made:
        raise InputError(f"{path}: output_type multiple_choice needs doc_to_choice.")
    version = (data.get("metadata") or {}).get("version")
    made |= {"version": str(version)} if version is not None else {}
    return made | (_examples(data, files, split, path) if made["few_shot"] else {})


def _examples(data: Mapping[str, Any], files: Mapping[str, str], split: Any, path: str) -> dict[str, Any]:
    config = data.get("fewshot_config") or {}
    unknown = [key for key in config if key not in ("sampler", "split", "samples")]
    if unknown:
        raise InputError(f"{path}: fewshot_config.{unknown[0]} is not read. What is: sampler, split, samples.")
    made: dict[str, Any] = {"sampler": config["sampler"]} if "sampler" in config else {}
    own = config.get("split") or data.get("fewshot_split")
    if own is None and isinstance(config.get("samples"), list):
        return made | {"samples": config["samples"]}
    if own is None:
        raise InputError(
            f"{path}: num_fewshot is {data['num_fewshot']} and no fewshot_split names where examples come from. The harness "
            "would take them from what is scored, and show questions with their answers. Name one, or list "
            "fewshot_config.samples."
        )
    if own != split:
        return made | {"shots": _file(files, own, "fewshot_split", path)}
    if not data.get("test_split"):
        raise InputError(
            f"{path}: examples come from '{own}', which is scored. Name it test_split, so that none is its own."
        )
    return made


def _files(data: Mapping[str, Any], path: str) -> dict[str, str]:
    kwargs = data.get("dataset_kwargs") or {}
    unknown = [key for key in kwargs if key != "data_files"]
    if unknown:
        raise InputError(f"{path}: dataset_kwargs.{unknown[0]} is not read; data_files is.")
    found = kwargs.get("data_files")
    named = {"train": found} if isinstance(found, str) else found
    if not isinstance(named, dict) or not named:
        raise InputError(f"{path}: dataset_kwargs.data_files is required: a path for each split.")
    one = {split: given[0] if isinstance(given, list) and len(given) == 1 else given for split, given in named.items()}
    wrong = [split for split, given in one.items() if not isinstance(given, str)]
    if wrong:
        raise InputError(f"{path}: data_files.{wrong[0]} is {one[wrong[0]]!r:.60}; one path or pattern is wanted.")
    folder = os.path.dirname(path)
    return {split: given if "://" in given else os.path.join(folder, given) for split, given in one.items()}


def _file(files: Mapping[str, str], split: Any, key: str, path: str) -> str:
    if split not in files:
        raise InputError(f"{path}: {key} is {split!r}, for which data_files has no path.{suggest(str(split), files)}")
    return files[split]


def _metrics(listed: Any, output: str, path: str) -> tuple[str, ...]:
    if listed is None:
        return _DEFAULT.get(output, METRICS[output])
    names = [one.get("metric") if isinstance(one, dict) else None for one in listed] if isinstance(listed, list) else []
    unknown = [name for name in names if name not in METRICS[output]]
    if unknown or not names:
        raise InputError(
            f"{path}: metric_list names {unknown or listed!r}. Of {output} there are {', '.join(METRICS[output])}."
        )
    return tuple(str(name) for name in names)


# --- asking


def score_harness(
    model: Model, config: Harness, files: Mapping[str, bytes], shots: Mapping[str, bytes] | None, progress: Progress
) -> list[dict[str, Any]]:
    """The rows of a task; `shots` are the files of its examples."""
    items = list(read_items(config, files, shots))
    if config.output_type == "loglikelihood_rolling":
        return _rolling(model, items, progress)
    if config.output_type == "multiple_choice":
        alone = "" if "acc_mutual_info" in config.metrics else None
        normalize = _NORMALIZE[config.metrics[0]]
        return score_items(model, items, normalize, progress, reading="harness", unconditional=alone)
    pairs = [(item.contexts[0], item.continuations[0]) for item in items]
    found = likelihoods(model, pairs, progress, reading="harness")
    rows = [item_row(item, [one], {}, "raw") for item, one in zip(items, found, strict=True)]
    greedy = [row.get("value") for row in rows]
    for row, hit in zip(rows, greedy, strict=True):
        row["extra"] = {} if hit is None else {"greedy": hit}
        if config.metrics[0] == "perplexity":
            row["value"] = row["nats"] if math.isfinite(row["nats"]) else None
    return rows


def _rolling(model: Model, items: Sequence[Item], progress: Progress) -> list[dict[str, Any]]:
    texts = [item.continuations[0] for item in items]
    found = likelihoods(model, [("", text) for text in texts], progress, reading="harness")
    rows = []
    for item, text, one in zip(items, texts, found, strict=True):
        size = len(text.encode())
        bits = one.nats / (math.log(2) * size)
        row = {"domain": item.domain, "item": item.id, "weight": float(size), "bytes": size, "tokens": one.tokens}
        row |= {"value": bits if math.isfinite(bits) else None, "nats": one.nats, "truncated": False}
        rows.append(row | {"extra": {"words": float(len(re.split(r"\s+", text)))}})
    return rows


def harness_metrics(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> dict[str, float | None]:
    """The harness's metrics of stored rows; None where a row has no finite number."""
    return {name: _metric(rows, name) for name in metrics}


def _metric(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    if any(row.get("value") is None for row in rows) or not rows:
        return None
    extras = [dict(row.get("extra") or {}) for row in rows]
    if name in _NORMALIZE and len(rows[0]["choice_nats"]) > 1:
        right = [renormalize(row, _NORMALIZE[name]).taken == row["gold"] for row in rows]
        return float(sum(right)) / len(rows)
    if name == "acc":
        return float(sum(extra["greedy"] for extra in extras)) / len(rows)
    nats = math.fsum(row["nats"] for row in rows)
    if name == "perplexity":
        return _exp(nats / len(rows))
    sizes = [row["bytes"] for row in rows] if name != "word_perplexity" else [extra["words"] for extra in extras]
    per = float(nats / math.fsum(sizes))
    return per / math.log(2) if name == "bits_per_byte" else _exp(per)


def _exp(power: float) -> float | None:
    return math.exp(power) if power < 700 else None


# --- items


def read_items(config: Harness, files: Mapping[str, bytes], shots: Mapping[str, bytes] | None = None) -> Iterator[Item]:
    """The items in the order of their files, each with its examples."""
    docs = [(f"{name}:{number}", record) for name in sorted(files) for number, record in records(name, files[name])]
    if not docs:
        raise InputError(f"evaluate: no record in {', '.join(sorted(files))}.")
    prompts = _prompts(config, [record for _, record in docs], shots)
    for (item, record), before in zip(docs[: config.limit], prompts, strict=False):
        name, _, line = item.rpartition(":")
        yield _item(config, record, before, item, f"{name}, line {line} (from 0)")


def _item(config: Harness, record: Record, before: str, item: str, place: str) -> Item:
    target = _target(config, record, place)
    if config.output_type == "loglikelihood_rolling":
        return Item(item, "all", ("",), (_words(target, "doc_to_target", place),), 0)
    asked = _question(config, record, place)
    if config.output_type == "loglikelihood":
        return Item(
            item, "all", (before + _words(asked, "doc_to_text", place),), (_words(target, "doc_to_target", place),), 0
        )
    choices = _choices(config, record, place)
    if isinstance(asked, int):  # the choices are contexts of one continuation
        if "acc_mutual_info" in config.metrics:
            raise InputError(f"{place}: acc_mutual_info compares continuations, and here the choices are contexts.")
        ending = config.target_delimiter + _words(target, "doc_to_target", place)
        contexts = tuple(before + choice for choice in choices)
        return Item(
            item, "all", contexts, (ending,) * len(choices), _gold(asked, choices, "doc_to_text", place), choices
        )
    endings = tuple(config.target_delimiter + choice for choice in choices)
    gold = _gold(target, choices, "doc_to_target", place)
    return Item(item, "all", (before + asked,) * len(choices), endings, gold, choices)


def _prompts(config: Harness, docs: Sequence[Record], shots: Mapping[str, bytes] | None) -> Iterator[str]:
    """What stands before each question: the description, and examples drawn in the harness's order."""
    same = shots is None and not config.samples
    pool: Sequence[Record] = docs if same else list(config.samples)
    if shots is not None:
        pool = [record for name in sorted(shots) for _, record in records(name, shots[name])]
    drawn = random.Random(SEED)
    for number, doc in enumerate(docs):
        place = f"item {number} (from 0)"
        text = _described(config, doc, place)
        for example in _drawn(config, drawn, pool, doc if same else None) if config.few_shot else ():
            text += _example(config, example, f"an example of {place}")
        yield text


def _drawn(config: Harness, drawn: random.Random, pool: Sequence[Record], own: Record | None) -> list[Record]:
    count = config.few_shot
    others = pool if own is None else [record for record in pool if record != own]
    if len(others) < count:
        raise InputError(f"evaluate: {count} examples asked, and there are {len(others)} to draw from. Ask for fewer.")
    if config.sampler == "first_n":
        return list(others[:count])
    if own is None:
        return drawn.sample(list(pool), count)
    found = [record for record in drawn.sample(list(pool), count + 1) if record != own][:count]
    return found if len(found) == count else drawn.sample(list(others), count)


def _example(config: Harness, record: Record, place: str) -> str:
    asked, target = _question(config, record, place), _target(config, record, place)
    if config.output_type == "multiple_choice":
        choices = _choices(config, record, place)
        if isinstance(asked, int):
            asked = choices[_gold(asked, choices, "doc_to_text", place)]
        else:
            target = choices[_gold(target, choices, "doc_to_target", place)]
    parts = (_words(asked, "doc_to_text", place), config.target_delimiter, _words(target, "doc_to_target", place))
    return "".join(parts) + config.fewshot_delimiter


def _described(config: Harness, record: Record, place: str) -> str:
    if not config.description:
        return ""
    if config.description in record:
        return _words(record[config.description], "description", place)
    return render(config.description, record, f"{place}, description")


def _question(config: Harness, record: Record, place: str) -> str | int:
    """The question; a number where the choices are contexts, and it says which is right."""
    given = config.doc_to_text
    if isinstance(given, int):
        return given
    if given in record:
        found = record[given]
        return found if isinstance(found, int) and not isinstance(found, bool) else _words(found, "doc_to_text", place)
    text = render(given, record, f"{place}, doc_to_text")
    return int(text) if _is_number(text) and config.doc_to_choice is not None else text


def _target(config: Harness, record: Record, place: str) -> str | int:
    given = config.doc_to_target
    if isinstance(given, int):
        return given
    found = record[given] if given in record else render(given, record, f"{place}, doc_to_target")
    if isinstance(found, bool) or not isinstance(found, (str, int)):
        raise InputError(f"{place}: doc_to_target is {found!r:.60}; one text or the number of a choice is wanted.")
    return int(found) if isinstance(found, str) and _is_number(found) and config.doc_to_choice is not None else found


def _choices(config: Harness, record: Record, place: str) -> tuple[str, ...]:
    given = config.doc_to_choice
    if isinstance(given, str):
        given = record[given] if given in record else value(given, record, f"{place}, doc_to_choice")
    if not isinstance(given, (list, tuple)) or len(given) < 2 or not all(isinstance(one, str) and one for one in given):
        raise InputError(f"{place}: doc_to_choice is {given!r:.80}; a list of at least two texts is wanted.")
    return tuple(given)


def _gold(found: str | int, choices: Sequence[str], key: str, place: str) -> int:
    at = found if isinstance(found, int) else list(choices).index(found) if found in choices else -1
    if not 0 <= at < len(choices):
        none = f"which is none of {len(choices)} choices. Hidden labels cannot be scored."
        raise InputError(f"{place}: {key} is {found!r:.60}, {none}")
    return at


def _words(found: Any, key: str, place: str) -> str:
    if not isinstance(found, str):
        raise InputError(f"{place}: {key} is {found!r:.60}; a text is wanted.")
    try:
        found.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{place}: {key} holds half of a surrogate pair, which no UTF-8 text can.") from error
    return found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 9
