"""Registered domains by the public suffix list (publicsuffix.org), private suffixes included: x.github.io is its own owner.

The list is the one that comes with the installed `tldextract`; nothing is fetched and nothing is written. Rules are applied
as the list's own description has it: the longest rule wins, an exception over all, and an unknown ending counts as a
suffix of one label. Hosts are ASCII in lower case (IDNA), without a final dot.
"""

import importlib.util
import os
import re
from functools import cache

_SNAPSHOT = ".tld_set_snapshot"
_VERSION = re.compile(r"^// VERSION: (\S{1,60})$", re.MULTILINE)


@cache
def snapshot_version() -> str:
    """When the installed list was made: it is part of the identity of what depends on it."""
    with open(_path(), encoding="utf-8") as file:
        found = _VERSION.search(file.read(4096))
    return found[1] if found else "unknown"


@cache
def _rules() -> dict[str, int]:
    """How many labels each rule takes as the suffix: its own, one more for `*.`, one less for `!`."""
    rules: dict[str, int] = {}
    with open(_path(), encoding="utf-8") as file:
        for line in file:
            rule = line.split(maxsplit=1)[0] if line.strip() else ""
            if not rule or rule.startswith("//"):
                continue
            plain = rule.removeprefix("!").removeprefix("*.")
            if not plain.isascii():
                import idna

                plain = idna.encode(plain, uts46=True).decode()
            labels = plain.count(".") + 1
            if rule.startswith("!"):
                rules[f"!{plain}"] = labels - 1
            elif rule.startswith("*."):
                rules[f"*{plain}"] = labels + 1
            else:
                rules[plain] = labels
    return rules


@cache
def top_level_domains() -> frozenset[str]:
    """The last labels of all rules."""
    return frozenset(rule.lstrip("!*").rsplit(".", 1)[-1] for rule in _rules())


def split_host(host: str) -> tuple[str | None, str]:
    """The registered domain (None where the host itself is a public suffix) and the public suffix of a host name."""
    rules = _rules()
    labels = host.split(".")
    taken = 1
    for first in range(max(0, len(labels) - 10), len(labels)):  # no rule has as many labels
        rest = ".".join(labels[first:])
        if f"!{rest}" in rules:
            taken = rules[f"!{rest}"]
            break
        if first > 0 and f"*{rest}" in rules:
            taken = max(taken, rules[f"*{rest}"])
        if rest in rules:
            taken = max(taken, rules[rest])
    suffix = ".".join(labels[-taken:])
    return (".".join(labels[-taken - 1 :]) if len(labels) > taken else None), suffix


def _path() -> str:
    found = importlib.util.find_spec("tldextract")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("the public suffix list comes with tldextract: pip install tldextract")
    return os.path.join(os.path.dirname(found.origin), _SNAPSHOT)
