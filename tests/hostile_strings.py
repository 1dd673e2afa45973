"""Strings made to keep regular expressions busy, and the expressions of the factory with the ways they are used.

Generic strings are runs and alternations. The others are built from an expression's own syntax tree, as attackers do: what
leads to a repetition, then its body many times, then something that does not fit; and all that matches but the end, many
times over, so that a search begins again and again.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import re._constants as op  # the tree of an expression is not public; its shape is the same from 3.11 to 3.14
import re._parser as parser
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

Pattern = re.Pattern[Any]

# It makes pages of the documentation that is installed on this machine, and reads nothing else.
TRUSTED = "factory.demo"
WAYS = ("match", "fullmatch", "search", "finditer", "findall", "sub", "subn", "split")
PUMPS = (
    *"aAzZ059 \t\n\r.,:;/\\-_=+*#~^$%&@!?|<>()[]{}'\"`\0",
    *("é", "中", "\u0301", "\xa0", "\U0001f469"),
    *(
        "\r\n",
        "a ",
        " a",
        "a\n",
        "a.",
        "a-",
        "a=",
        "a:",
        "a/",
        "a@",
        "1.",
        "1,",
        "1 ",
        "1-",
        "A1",
        "aA",
        "= ",
        "&amp",
        "&#",
    ),
    *("<a", "<a ", "</a>", "<!--", "<p ", "<meta ", "<a href=", "<![CDATA["),
    *("{{", "[[", "{|", "((", "$$", "\\(", "\\begin{", "\\{"),
    *(
        '="',
        "=' ",
        "http://",
        "://",
        "//",
        "/a",
        "a@a.",
        "0x",
        "-- ",
        "%41",
        "xn--",
        "::",
        "1:",
        "AKIA",
        "eyJ",
        "eyJa.",
    ),
    *("-----BEGIN ", "a=a=", "\t\n"),
)
FILL = 6  # how often a repetition without a small bound is gone through in what leads to another one


def patterns() -> dict[str, tuple[Pattern, tuple[str, ...]]]:
    """Every compiled expression that a module of the factory holds, also in a tuple or dictionary, with its ways of use.

    The same expression in several modules is one, used in all the ways they do.
    """
    names: dict[int, str] = {}
    found: dict[str, tuple[Pattern, set[str]]] = {}
    for module in _modules():
        ways = _ways(module)
        for name, value in vars(module).items():
            for path, pattern in _held(name, value):
                first = names.setdefault(id(pattern), f"{module.__name__}.{path}")
                found.setdefault(first, (pattern, set()))[1].update(ways.get(name, ()))
    return {name: (pattern, tuple(sorted(used)) or ("search",)) for name, (pattern, used) in found.items()}


def _modules() -> Iterator[Any]:
    root = importlib.import_module("factory")
    for info in pkgutil.walk_packages(root.__path__, "factory."):
        if info.name.endswith("__main__") or info.name.startswith(TRUSTED):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what other libraries say of each other
                module = importlib.import_module(info.name)
        except ImportError as error:
            if (error.name or "").partition(".")[0] == "factory":
                raise
            continue  # an optional dependency that is not installed
        yield module


def _held(path: str, value: Any) -> Iterator[tuple[str, Pattern]]:
    if isinstance(value, re.Pattern):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _held(f"{path}[{key!r}]", item)
    elif isinstance(value, list | tuple | frozenset | set) and len(value) < 1000:
        for index, item in enumerate(value):
            yield from _held(f"{path}[{index}]", item)


def _ways(module: Any) -> dict[str, set[str]]:
    """Name of a global to the methods called on it, or on an item of it, anywhere in its module.

    What is handed on to another function may be searched with.
    """
    found: dict[str, set[str]] = {}
    tree = ast.parse(inspect.getsource(module))
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        for given in (*call.args, *(word.value for word in call.keywords)):
            if isinstance(given, ast.Name):
                found.setdefault(given.id, set()).add("search")
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in WAYS):
        base = node.value.value if isinstance(node.value, ast.Subscript) else node.value
        if isinstance(base, ast.Name):
            found.setdefault(base.id, set()).add(node.attr)
    return found


@cache
def attacks(pattern: str | bytes, flags: int) -> tuple[tuple[str, str, str], ...]:
    """(beginning, pump, end): the string is the beginning, the pump as often as there is room, and the end."""
    found: dict[tuple[str, str, str], None] = dict.fromkeys(("", pump, "\x01") for pump in PUMPS)
    tree = parser.parse(pattern, flags & ~re.UNICODE if isinstance(pattern, bytes) else flags)
    for before, body in _repetitions(list(tree), "", {}):
        for end in ("\x01", ""):
            found[before, body, end] = None
        found["", before + body * FILL, "\x01"] = None
    whole = _sample(list(tree), {})
    for cut in {whole[:-1], whole[: len(whole) // 2], whole}:
        found["", cut, "\x01"] = None
        found["", cut + "\n", ""] = None
    return tuple(key for key in found if key[1])


def string(attack: tuple[str, str, str], size: int) -> str:
    begin, pump, end = attack
    return begin + (pump * (size // len(pump) + 1))[:size] + end


def _repetitions(nodes: list[Any], before: str, groups: dict[int, str]) -> Iterator[tuple[str, str]]:
    """(what leads to a repetition, once through it) for each repetition of the tree, however deep."""
    for node in nodes:
        kind, detail = node
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            _, high, inner = detail
            if high > 1:
                for variant in _variants(list(inner), groups):
                    yield before, variant
            yield from _repetitions(list(inner), before, groups)
        elif kind is op.SUBPATTERN:
            yield from _repetitions(list(detail[3]), before, groups)
        elif kind is op.ATOMIC_GROUP:
            yield from _repetitions(list(detail), before, groups)
        elif kind is op.BRANCH:
            for branch in detail[1]:
                yield from _repetitions(list(branch), before, groups)
        elif kind in (op.ASSERT, op.ASSERT_NOT):
            yield from _repetitions(list(detail[1]), before, groups)
        before += _sample([node], groups)


def _variants(nodes: list[Any], groups: dict[int, str]) -> Iterator[str]:
    """Some texts that match: one, and one for each branch of an alternative at the top."""
    seen = {_sample(nodes, groups)}
    for index, (kind, detail) in enumerate(nodes):
        branches = detail[1] if kind is op.BRANCH else ()
        if kind is op.SUBPATTERN and len(detail[3]) == 1 and detail[3][0][0] is op.BRANCH:
            branches = detail[3][0][1][1]
        for branch in list(branches)[:8]:
            seen.add(
                _sample(nodes[:index], groups) + _sample(list(branch), groups) + _sample(nodes[index + 1 :], groups)
            )
        if kind is op.IN:
            seen |= {
                _sample(nodes[:index], groups) + char + _sample(nodes[index + 1 :], groups) for char in _some(detail)
            }
    yield from sorted(seen - {""})


def _sample(nodes: list[Any], groups: dict[int, str]) -> str:
    """A text that matches, but for what looks around and anchors; repetitions are gone through a few times."""
    made = ""
    for kind, detail in nodes:
        if kind is op.LITERAL:
            made += chr(detail)
        elif kind is op.NOT_LITERAL:
            made += "a" if detail != ord("a") else "b"
        elif kind is op.ANY:
            made += "a"
        elif kind is op.IN:
            made += _some(detail)[0]
        elif kind is op.BRANCH:
            made += max((_sample(list(branch), groups) for branch in detail[1]), key=len)
        elif kind is op.SUBPATTERN:
            inner = _sample(list(detail[3]), groups)
            if detail[0] is not None:
                groups[detail[0]] = inner
            made += inner
        elif kind is op.ATOMIC_GROUP:
            made += _sample(list(detail), groups)
        elif kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            low, high, inner = detail
            made += _sample(list(inner), groups) * (low if low else min(int(high), FILL))
        elif kind is op.GROUPREF:
            made += groups.get(detail, "")
    return made


_CATEGORIES = {
    op.CATEGORY_DIGIT: "7",
    op.CATEGORY_NOT_DIGIT: "a",
    op.CATEGORY_SPACE: " ",
    op.CATEGORY_NOT_SPACE: "a",
    op.CATEGORY_WORD: "a",
    op.CATEGORY_NOT_WORD: "-",
}


def _some(items: Any) -> list[str]:
    """Some characters of a class, at least one."""
    items = list(items)
    if items and items[0][0] is op.NEGATE:
        return [char for char in "a1 .-xé" if not any(_holds(item, char) for item in items[1:])] or ["\u2603"]
    chars = []
    for kind, detail in items:
        if kind is op.LITERAL:
            chars.append(chr(detail))
        elif kind is op.RANGE:
            chars.append(chr(detail[0]))
        elif kind is op.CATEGORY:
            chars.append(_CATEGORIES[detail])
    return chars[:6] or ["a"]


def _holds(item: Any, char: str) -> bool:
    kind, detail = item
    if kind is op.LITERAL:
        return bool(detail == ord(char))
    if kind is op.RANGE:
        return bool(detail[0] <= ord(char) <= detail[1])
    if kind is op.CATEGORY:
        tests = {
            op.CATEGORY_DIGIT: char.isdigit(),
            op.CATEGORY_NOT_DIGIT: not char.isdigit(),
            op.CATEGORY_SPACE: char.isspace(),
            op.CATEGORY_NOT_SPACE: not char.isspace(),
            op.CATEGORY_WORD: char.isalnum() or char == "_",
            op.CATEGORY_NOT_WORD: not (char.isalnum() or char == "_"),
        }
        return tests[detail]
    return False


def single_spaces(text: str) -> str:
    """The text with one space for each run of them, as wikitext is before its headings are looked at."""
    return re.sub(r"[ \t\xa0]{2,}", " ", text)
