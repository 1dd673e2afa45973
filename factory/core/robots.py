"""robots.txt as RFC 9309 has it: groups by product token, longest matching path wins, allow wins a tie.

What is read is bounded, and matching a path takes time linear in its length for each piece of a rule between two `*`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

# RFC 9309 section 2.5: a parser must take at least 500 kibibytes; we read that much and no more.
MAX_ROBOTS_BYTES = 500 * 1024
MAX_RULES = 10_000


@dataclass(frozen=True)
class Rule:
    """A path pattern: the pieces between its `*`, and whether the last one ends the path (`$`)."""

    length: int
    allowed: bool
    pieces: tuple[str, ...]
    anchored: bool = False

    def matches(self, path: str) -> bool:
        first, *others = self.pieces
        if not path.startswith(first):
            return False
        if not others:
            return not self.anchored or len(path) == len(first)
        at = len(first)
        for piece in others[:-1]:
            found = path.find(piece, at)
            if found < 0:
                return False
            at = found + len(piece)
        if self.anchored:
            return path.endswith(others[-1]) and len(path) - len(others[-1]) >= at
        return path.find(others[-1], at) >= 0


@dataclass(frozen=True)
class Robots:
    """The rules that hold for one user agent on one site."""

    rules: tuple[Rule, ...] = ()  # the longest first
    crawl_delay: float = 0.0
    refusal: str = "robots"  # what a page that may not be fetched is counted as

    def allows(self, path: str) -> bool:
        """Whether `path` (with its query) may be fetched."""
        wanted = _normalise(path)
        if wanted == "/robots.txt":
            return True
        for rule in self.rules:
            if rule.matches(wanted):
                return rule.allowed
        return True


ALLOW_ALL = Robots()


def keep_out(reason: str) -> Robots:
    """Nothing may be fetched, because robots.txt could not be read."""
    return Robots(rules=(Rule(1, False, ("/",)),), refusal=reason)


@dataclass
class _Group:
    agents: list[str] = field(default_factory=list)
    rules: list[tuple[bool, str]] = field(default_factory=list)
    crawl_delay: float = 0.0
    open: bool = True  # still collecting user-agent lines


def parse_robots(data: bytes, user_agent: str) -> Robots:
    """The rules for `user_agent`: all groups that name its product token, else all groups for `*`."""
    return parse_for(data, [user_agent])[0]


def parse_for(data: bytes, user_agents: Sequence[str]) -> list[Robots]:
    """The rules for each of several agents; those for which the same groups count share them."""
    groups = _groups(data[:MAX_ROBOTS_BYTES].decode("utf-8", "replace").removeprefix("\ufeff"))
    made: dict[tuple[int, ...], Robots] = {}
    found = []
    for agent in user_agents:
        token = re.split(r"[/\s]", agent.strip(), maxsplit=1)[0].lower()
        mine = tuple(place for place, group in enumerate(groups) if token in group.agents)
        mine = mine or tuple(place for place, group in enumerate(groups) if "*" in group.agents)
        if mine not in made:
            made[mine] = _robots([groups[place] for place in mine])
        found.append(made[mine])
    return found


def _robots(groups: list[_Group]) -> Robots:
    rules = [_rule(path, allowed) for allowed, path in [rule for group in groups for rule in group.rules][:MAX_RULES]]
    rules.sort(key=lambda rule: (-rule.length, not rule.allowed))
    return Robots(tuple(rules), max((group.crawl_delay for group in groups), default=0.0))


def _groups(text: str) -> list[_Group]:
    groups: list[_Group] = []
    for line in text.splitlines():
        key, colon, value = line.split("#", 1)[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon:
            continue
        if key == "user-agent":
            if not groups or not groups[-1].open:
                groups.append(_Group())
            groups[-1].agents.append(value.split("/")[0].strip().lower())
        elif groups and key in ("allow", "disallow"):
            groups[-1].open = False
            if value:  # an empty rule forbids and allows nothing
                groups[-1].rules.append((key == "allow", _normalise(value)))
        elif groups and key == "crawl-delay":
            groups[-1].open = False
            if re.fullmatch(r"\d{1,6}(\.\d{1,6})?", value):
                groups[-1].crawl_delay = float(value)
    return groups


def _normalise(path: str) -> str:
    # RFC 9309 section 2.2.2: compare after percent-encoding is made the same on both sides. '*' and '$' stay special.
    return quote(unquote_to_bytes(path), safe="/?&=+,;:@!$'()*~-._[]") or "/"


def _rule(path: str, allowed: bool) -> Rule:
    anchored = path.endswith("$")
    # Runs of '*' mean one; a rule is bounded, so that no file makes matching slow.
    pieces = re.split(r"\*+", path.removesuffix("$")[:2000])[:20]
    return Rule(len(path), allowed, tuple(pieces), anchored)
