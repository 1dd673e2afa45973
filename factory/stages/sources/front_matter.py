"""What stands above a Markdown text between two lines of `---` (YAML) or `+++` (TOML): a map in, or nothing if it is none."""

import datetime
import re
import tomllib
from collections.abc import Mapping
from typing import Any

_BLOCK = re.compile(r"\A(---|\+\+\+)[ \t]*\r?\n")
_MAX = 64 << 10
_MAX_DEPTH = 20


def split_front_matter(text: str, limit: int = _MAX) -> tuple[Mapping[str, Any], str]:
    """The map and the text below it; ({}, text) where there is none, or one that cannot be read or is too large."""
    begin = _BLOCK.match(text)
    if begin is None:
        return {}, text
    end = re.compile(rf"^{re.escape(begin[1])}[ \t]*\r?$", re.MULTILINE).search(text, begin.end(), begin.end() + limit)
    if end is None:
        return {}, text
    block = text[begin.end() : end.start()]
    try:
        found = _yaml(block) if begin[1] == "---" else tomllib.loads(block)
    except (ValueError, RecursionError):
        return {}, text
    return (found, text[end.end() :].lstrip("\r\n")) if isinstance(found, Mapping) else ({}, text)


def _yaml(block: str) -> Any:
    import yaml

    # Aliases can stand for more than memory holds, and time grows with the square of the depth: neither is written by hand.
    depth = 0
    try:
        for event in yaml.parse(block, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH or isinstance(event, yaml.AliasEvent):
                return None
        return yaml.safe_load(block)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def scalar(value: Any) -> str | None:
    """The text of a single value, also of a list of one; None of anything else."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, datetime.date):
        return value.isoformat()
    return str(value).strip()[:500] or None if isinstance(value, str | int | float) else None
