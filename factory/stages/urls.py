"""Addresses of the web in a normal form, and keys under which the forms of one page meet.

Parsing follows the URL standard (url.spec.whatwg.org) for http, https and ftp; anything else is no address and gives None,
never an exception. The normal form: scheme and host in lower case, international names in punycode, no user, no default
port, no fragment; `.` and `..` resolved; escapes of unreserved characters decoded, the others in upper case, what has to be
escaped escaped; parameters that only track visitors left out and the others sorted by name (repeated names keep their
order); no slash at the end but for the root. Time is linear in the length, which is bounded.

The key (SURT) has the labels of the host reversed, and does not tell http from https nor `www.` from none. `www.` stays
where it is itself the registered domain, so that one key never stands for two owners.
"""

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple

from factory.stages.public_suffixes import split_host

MAX_LENGTH = 1 << 16
TRACKING = ("utm_*", "gclid", "fbclid", "ref", "sessionid", "phpsessid", "jsessionid")

_PORTS = {"http": "80", "https": "443", "ftp": "21"}
# Most addresses are in normal form already, but for a slash at the end.
_PLAIN = re.compile(r"(https?)://([a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z][a-z0-9-]*)(/[A-Za-z0-9_~!$'()*+,=:@/.-]*)?")
_ADDRESS = re.compile(r"([A-Za-z]{3,5}):[/\\]*([^/\\?#]*)([^?#]*)(?:\?([^#]*))?")
_PORT = re.compile(r":(\d*)$")
_BREAKS = str.maketrans("", "", "\t\n\r")
_EDGES = "".join(map(chr, range(0x21)))
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f#/:<>?@\[\\\]^|%]")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})|%|[^A-Za-z0-9._~!$&'()*+,;=:@/?-]+")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]*|\d+")
_SESSION = re.compile(r";jsessionid=[^/;]*", re.IGNORECASE)


class Host(NamedTuple):
    """A host in normal form; `domain` is None for addresses of machines and for public suffixes. `key` is its reversal."""

    name: str
    kind: str
    domain: str | None
    suffix: str | None
    key: str


class Address(NamedTuple):
    """An address in normal form, in its pieces; `path` begins with a slash, `port` is empty where it is the default."""

    scheme: str
    host: Host
    port: str
    path: str
    query: str

    @property
    def text(self) -> str:
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self.host.name}{self.port}{self.path}{query}"

    @property
    def key(self) -> str:
        query = f"?{self.query}" if self.query else ""
        return f"{self.host.key}{self.port}){self.path}{query}"


def normalise(url: str) -> str | None:
    """The normal form of an address; None for what is none."""
    address = parse(url)
    return address.text if address else None


def parse(url: str, tracking: tuple[str, ...] = TRACKING, *, sort: bool = True) -> Address | None:
    """The pieces of an address in normal form; None for what is none. Without `sort`, parameters stay in their order."""
    plain = _PLAIN.fullmatch(url) if len(url) <= MAX_LENGTH else None
    if plain is not None:
        scheme, name, path = plain.groups()
        if path is None or "/." not in path:
            host = find_host(name)
            return Address(scheme, host, "", (path or "").rstrip("/") or "/", "") if host else None
    return _parse(url, tracking, sort)


def _parse(url: str, tracking: tuple[str, ...], sort: bool) -> Address | None:
    found = _ADDRESS.match(url.strip(_EDGES).translate(_BREAKS)) if len(url) <= MAX_LENGTH else None
    if found is None:
        return None
    scheme, authority, path, query = found.groups()
    scheme = scheme.lower()
    if scheme not in _PORTS:
        return None
    name = authority.rpartition("@")[2]
    port = _PORT.search(name)
    number = ""
    if port is not None:
        name = name[: port.start()]
        number = port[1].lstrip("0") or ("0" if port[1] else "")
        if len(number) > 5 or int(number or 0) > 0xFFFF:
            return None
    host = find_host(name)
    if host is None:
        return None
    number = f":{number}" if number and number != _PORTS[scheme] else ""
    return Address(scheme, host, number, _path(path), _query(query, tracking, sort) if query else "")


@lru_cache(maxsize=1 << 16)
def find_host(name: str) -> Host | None:
    """The host of this name as it stands in an address; None where no host can be called so."""
    if name.startswith("["):
        try:
            shown = (
                f"[{ipaddress.IPv6Address(name[1:-1] if name.endswith(']') and '%' not in name else '').compressed}]"
            )
        except ValueError:
            return None
        return Host(shown, "ipv6", None, None, shown)
    ascii_name = _ascii(name)
    if ascii_name is None:
        return None
    last = ascii_name.rpartition(".")[2]
    if _NUMBER.fullmatch(last):
        machine = _ipv4(ascii_name)
        return Host(machine, "ipv4", None, None, machine) if machine else None
    domain, suffix = split_host(ascii_name)
    shown = ascii_name if domain == ascii_name else ascii_name.removeprefix("www.") if domain else ascii_name
    return Host(ascii_name, "name", domain, suffix, ",".join(reversed(shown.split("."))))


def _ascii(name: str) -> str | None:
    if len(name) > 1024:
        return None
    if "%" in name:
        from urllib.parse import unquote

        name = unquote(name, errors="replace")
    if not name.isascii():
        name = _punycode(name)
    name = name.lower().removesuffix(".")
    if not name or len(name) > 253 or _FORBIDDEN.search(name):
        return None
    return name if all(0 < len(label) <= 63 for label in name.split(".")) else None


def _punycode(name: str) -> str:
    import idna

    try:
        return idna.encode(name, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        pass
    # Names that IDNA 2008 does not allow are still in use: hearts, snowmen, underscores beside umlauts.
    import unicodedata

    plain = unicodedata.normalize("NFKC", name).casefold().replace("。", ".")
    try:
        labels = (
            label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in plain.split(".")
        )
        return ".".join(labels)
    except UnicodeError:
        return ""


def _ipv4(name: str) -> str | None:
    """As browsers read it: up to four numbers, decimal, octal (0…) or hexadecimal (0x…), the last filling what is left."""
    pieces = name.split(".")
    if len(pieces) > 4 or not all(_NUMBER.fullmatch(piece) for piece in pieces):
        return None
    values = []
    for piece in pieces:
        try:
            octal = len(piece) > 1 and piece[0] == "0"
            values.append(int(piece[2:] or "0", 16) if piece[:2] in ("0x", "0X") else int(piece, 8 if octal else 10))
        except ValueError:
            return None
    left = 256 ** (5 - len(values))
    if any(value > 255 for value in values[:-1]) or values[-1] >= left:
        return None
    total = values[-1] + sum(value << (8 * (3 - place)) for place, value in enumerate(values[:-1]))
    return str(ipaddress.IPv4Address(total))


def _path(path: str) -> str:
    path = path.replace("\\", "/")
    if not path:
        return "/"
    path = _ESCAPE.sub(_escape, path)
    if ";" in path:
        path = _SESSION.sub("", path)
    if "/." in path:
        kept: list[str] = []
        for segment in path.split("/")[1:]:
            if segment == "..":
                del kept[-1:]
            elif segment != ".":
                kept.append(segment)
        path = "/" + "/".join(kept)
    return path.rstrip("/") or "/"


def _query(query: str, tracking: tuple[str, ...], sort: bool) -> str:
    kept = []
    for item in _ESCAPE.sub(_escape, query).split("&"):
        name = item.partition("=")[0]
        if item and not _tracks(name.lower(), tracking):
            kept.append((name, item))
    if sort:
        kept.sort(key=lambda pair: pair[0])
    return "&".join(item for _, item in kept)


def _tracks(name: str, tracking: tuple[str, ...]) -> bool:
    return any(name == known or (known[-1] == "*" and name.startswith(known[:-1])) for known in tracking)


def _escape(found: re.Match[str]) -> str:
    digits = found[1]
    if digits is not None:
        character = chr(int(digits, 16))
        return character if character in _UNRESERVED else found[0].upper()
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "replace"))
