"""robots.txt as RFC 9309 has it: groups by product token, longest matching path wins, allow wins a tie."""

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

# RFC 9309 section 2.5: a parser must take at least 500 kibibytes; we read that much and no more.
MAX_ROBOTS_BYTES = 500 * 1024
MAX_RULES = 10_000


@dataclass(frozen=True)
class Robots:
    """The rules that hold for one user agent on one site."""

    rules: tuple[tuple[int, bool, re.Pattern[str]], ...] = ()  # (length of the path, allowed, path), longest first
    crawl_delay: float = 0.0
    refusal: str = "robots"  # what a page that may not be fetched is counted as

    def allows(self, path: str) -> bool:
        """Whether `path` (with its query) may be fetched."""
        wanted = _normalise(path)
        if wanted == "/robots.txt":
            return True
        for _, allowed, pattern in self.rules:
            if pattern.match(wanted):
                return allowed
        return True


ALLOW_ALL = Robots()


def keep_out(reason: str) -> Robots:
    """Nothing may be fetched, because robots.txt could not be read."""
    return Robots(rules=((1, False, re.compile("/")),), refusal=reason)


@dataclass
class _Group:
    agents: list[str] = field(default_factory=list)
    rules: list[tuple[bool, str]] = field(default_factory=list)
    crawl_delay: float = 0.0
    open: bool = True  # still collecting user-agent lines


def parse_robots(data: bytes, user_agent: str) -> Robots:
    """The rules for `user_agent`: all groups that name its product token, else all groups for `*`."""
    token = re.split(r"[/\s]", user_agent.strip(), maxsplit=1)[0].lower()
    groups = _groups(data[:MAX_ROBOTS_BYTES].decode("utf-8", "replace").removeprefix("\ufeff"))
    mine = [group for group in groups if token in group.agents] or [group for group in groups if "*" in group.agents]
    rules = [rule for group in mine for rule in group.rules][:MAX_RULES]
    compiled = [(len(path), allowed, _pattern(path)) for allowed, path in rules]
    compiled.sort(key=lambda rule: (-rule[0], not rule[1]))
    return Robots(tuple(compiled), max((group.crawl_delay for group in mine), default=0.0))


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


def _pattern(path: str) -> re.Pattern[str]:
    anchored = path.endswith("$")
    # Runs of '*' mean one; lazily joined pieces keep the match linear enough for rules of bounded length.
    pieces = [re.escape(piece) for piece in re.split(r"\*+", path.removesuffix("$")[:2000])]
    return re.compile(".*?".join(pieces[:20]) + ("$" if anchored else ""), re.DOTALL)
