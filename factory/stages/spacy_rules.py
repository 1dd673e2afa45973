"""The tokens that spaCy's English tokenizer gives for one run of white-space chunks, without spaCy's objects.

In: the chunks of a text that one blank each lies between (mostly one chunk alone). Out: for every chunk the lengths of its
tokens in characters, which fill it. The rules (special cases, and patterns of prefixes, suffixes, infixes and URLs) are
read from the installed spaCy; the way they are applied is that of spaCy 3's `Tokenizer`, which is what datatrove's
`SpaCyTokenizer("en")` calls (arXiv:2406.17557 counts its words with it).

Always true: time grows with the length of a chunk, not with its square (spaCy copies and searches the whole rest of a
chunk for every mark it takes off an end), nothing is remembered from call to call, and the tokens are spaCy's.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from factory.stages.language_extra import loading

# The patterns and special cases that the compiled rules for ASCII were written for; with others, all goes through the patterns.
KNOWN_RULES = "569799284a94a210"

_WINDOW = 64  # characters; no pattern but that of dots in a row looks at more of an end
_MARGIN = 8  # characters a pattern may look back
_USER = r"(?:\S+(?::\S*)?@)?"  # of the pattern of URLs: takes time in the square of the length
_SAME_USER = r"(?:\S+@)?"  # matches the same strings

Spans = list[tuple[int, int]]


class Rules(NamedTuple):
    """What the tokenizer of one language knows."""

    specials: dict[str, tuple[str, ...]]  # a chunk, or what is left of it without its ends -> its tokens
    longest: int  # characters of the longest of these
    prefix: re.Pattern[str]
    suffix: re.Pattern[str]
    infix: re.Pattern[str]
    url: re.Pattern[str]
    joined: dict[
        str, list[tuple[tuple[str, ...], str]]
    ]  # first token -> the rows of tokens that stand for special cases
    known: bool  # whether these are the rules of KNOWN_RULES


def english_rules() -> Rules:
    """The rules of `spacy.blank("en")`."""
    with loading("spacy_en", "spaCy"):
        import spacy
        from spacy.symbols import ORTH

        tokenizer: Any = spacy.blank("en").tokenizer
    patterns = {
        name: getattr(tokenizer, name).__self__.pattern
        for name in ("prefix_search", "suffix_search", "infix_finditer", "url_match")
    }
    specials = {text: tuple(token[ORTH] for token in tokens) for text, tokens in sorted(tokenizer.rules.items())}
    digest = hashlib.sha256(repr((patterns, specials)).encode()).hexdigest()[:16]
    rules = Rules(
        specials,
        max(map(len, specials)),
        re.compile(patterns["prefix_search"]),
        re.compile(patterns["suffix_search"]),
        re.compile(patterns["infix_finditer"]),
        re.compile(patterns["url_match"].replace(_USER, _SAME_USER)),
        {},
        digest == KNOWN_RULES,
    )
    # A special case that an affix would be taken off is looked for again among the tokens of the whole text.
    for text in specials:
        affixed = rules.prefix.match(text) or rules.suffix.search(text) or rules.infix.search(text)
        if affixed and not text.isspace():
            row = tuple(text[start:stop] for start, stop in _split(text, rules._replace(specials={})))
            rules.joined.setdefault(row[0], []).append((row, text))
    return rules


def tokenize(chunks: Sequence[str], rules: Rules) -> tuple[list[list[int]], list[bool]]:
    """The lengths of the tokens of each chunk, and whether a special case was found among its tokens.

    Only then can the chunks beside it matter: a longer special case that goes over the blank between two chunks stands for
    nothing itself, and keeps shorter ones inside the chunks from being found.
    """
    owners: list[int] = []
    tokens: list[str] = []
    for chunk, text in enumerate(chunks):
        spans = _split(text, rules)
        owners += [chunk] * len(spans)
        tokens += [text[start:stop] for start, stop in spans]
    lengths: list[list[int]] = [[] for _ in chunks]
    changed = [False] * len(chunks)
    replaced = _replacements(tokens, owners, rules)
    at = 0
    while at < len(tokens):
        chunk = owners[at]
        stop, special = replaced.get(at, (at + 1, None))
        if special is None:
            lengths[chunk] += [len(token) for token in tokens[at:stop]]
        else:
            lengths[chunk] += [len(token) for token in rules.specials[special]]
            changed[chunk] |= tuple(tokens[at:stop]) != rules.specials[special]
        at = stop
    return lengths, changed


def _replacements(tokens: list[str], owners: list[int], rules: Rules) -> dict[int, tuple[int, str | None]]:
    """Where special cases begin among the tokens, where they end and which they are; the longest win, then the first."""
    if rules.joined.keys().isdisjoint(tokens):
        return {}
    found: list[tuple[int, int, str]] = []
    for at, token in enumerate(tokens):
        for row, special in rules.joined.get(token, ()):
            if tuple(tokens[at : at + len(row)]) == row:
                found.append((-len(row), at, special))
    replaced: dict[int, tuple[int, str | None]] = {}
    taken: set[int] = set()
    for negative, at, special in sorted(found):
        stop = at - negative
        if at not in taken and stop - 1 not in taken:
            replaced[at] = (stop, special) if owners[at] == owners[stop - 1] else (at + 1, None)
        taken.update(range(at, stop))
    return replaced


def _split(text: str, rules: Rules) -> Spans:
    """The tokens of a chunk before special cases are looked for among them."""
    first, last = 0, len(text)
    prefixes: Spans = []
    suffixes: Spans = []
    special = False
    while first < last:
        special = _is_special(text, first, last, rules)
        if special:
            break
        before = _prefix(text, first, last, rules)
        if before and first + before < last and _is_special(text, first + before, last, rules):
            prefixes.append((first, first + before))
            first += before
            special = True
            break
        after = _suffix(text, first + before, last, rules)
        if after and first < last - after and _is_special(text, first, last - after, rules):
            suffixes.append((last - after, last))
            last -= after
            special = True
            break
        if not before and not after:
            break
        if before:
            prefixes.append((first, first + before))
        if after:
            suffixes.append((last - after, last))
        first, last = first + before, last - after
    middle: Spans = []
    if special:
        for token in rules.specials[text[first:last]]:
            middle.append((first, first + len(token)))
            first += len(token)
    elif first < last:
        middle = _inside(text, first, last, rules)
    return prefixes + middle + suffixes[::-1]


def _is_special(text: str, first: int, last: int, rules: Rules) -> bool:
    return last - first <= rules.longest and text[first:last] in rules.specials


def _inside(text: str, first: int, last: int, rules: Rules) -> Spans:
    """The tokens of what is left when no end can be taken off any more."""
    core = text[first:last]
    if core.isascii() and core.isalnum():
        return [(first, last)]
    if "." in core and rules.url.match(core):
        return [(first, last)]
    spans: Spans = []
    start = 0
    for match in rules.infix.finditer(core):
        if match.start() == 0:
            continue
        if match.start() != start:
            spans.append((first + start, first + match.start()))
        if match.start() != match.end():
            spans.append((first + match.start(), first + match.end()))
        start = match.end()
    if first + start < last:
        spans.append((first + start, last))
    return spans


def _prefix(text: str, first: int, last: int, rules: Rules) -> int:
    """Characters of the prefix; found in a window of the text, which is made wider while the prefix fills it."""
    width = _WINDOW
    while True:
        end = min(last, first + width)
        match = rules.prefix.match(text[first:end])
        if match is None:
            return 0
        if end == last or match.end() < width - _MARGIN:
            return match.end()
        width *= 2


def _suffix(text: str, first: int, last: int, rules: Rules) -> int:
    """Characters of the suffix, likewise."""
    if first >= last:
        return 0
    if rules.known and _no_suffix(text, first, last):
        return 0
    width = _WINDOW
    while True:
        start = max(first, last - width)
        match = rules.suffix.search(text[start:last])
        if match is None:
            return 0
        if start == first or match.start() > _MARGIN:
            return match.end() - match.start()
        width *= 2


def _no_suffix(text: str, first: int, last: int) -> bool:
    """Whether the last character rules every suffix of KNOWN_RULES out: a digit, or a letter without a unit or 's."""
    end = text[last - 1]
    if not end.isascii() or not end.isalnum():
        return False
    if end.isdigit():
        return True
    if end in "sS" and last - first > 1 and text[last - 2] in "'’":
        return False
    return not any("0" <= character <= "9" for character in text[max(first, last - 5) : last])
