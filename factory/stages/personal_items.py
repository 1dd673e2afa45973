"""Personal data in texts, exactly: what of the candidates of `factory.kernels.personal` is an address, a number, a key.

E-mail: a name of up to 64 characters, `@`, a host below a public ending. IP: routed on the public internet, and no version
number (after BigCode, arXiv:2305.06161: with two groups of one digit only beside a word such as `server`). Cards: a known
first part (or any beside a word such as `card`), its length and grouping, and Luhn's sum. IBAN: the length of its country,
and mod 97 (ISO 13616). SSN: an area, group and serial that can be given out. Phones: valid by the numbering plans that
`phonenumbers` holds (after `+` and a country, of a possible length), written as such numbers are; digits alone, or without
the trunk prefix, only beside a word such as `tel`. Numbers beside `isbn`, `doi` and the like are none (Dolma,
arXiv:2402.00159). Keys: known prefixes with enough entropy; JSON Web Tokens; private keys in PEM. Names and passwords in an
address (`https://name:password@host`).

Left alone are public DNS servers, placeholders of keys and passwords (`xxxx`, `user:password`), and what the rewriter
`redact` puts in the place of what it takes out. Every expression is bounded and looks at a few hundred bytes of a
candidate, a private key's body at 8,000.
"""

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple

import pyarrow as pa

from factory.core.errors import FactoryError, suggest
from factory.stages.public_suffixes import top_level_domains

FOUND = pa.list_(pa.struct([("start", pa.uint32()), ("end", pa.uint32()), ("kind", pa.string())]))
KINDS = ("url_credentials", "key", "email", "iban", "card", "ssn", "ipv6", "ipv4", "phone")

FINEWEB_EMAILS = ("email@example.com", "firstname.lastname@example.org")
# datatrove's list of addresses that did not answer (formatters/pii.py).
FINEWEB_IPS = (
    *("22.214.171.124", "126.96.36.199", "188.8.131.52"),
    *("184.108.40.206", "220.127.116.11", "18.104.22.168"),
)
PLACEHOLDER_CREDENTIALS = "user:password"


class Item(NamedTuple):
    """A byte range within a text."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True)
class Detector:
    """Finds the items of these kinds; phones of these regions (ISO 3166), and international ones of all."""

    kinds: frozenset[str]
    regions: tuple[str, ...]

    def find(self, texts: pa.Array) -> list[list[Item] | None]:
        """Sorted and apart, for every text; None where there is no text."""
        from factory.kernels.personal import find_candidates
        from factory.kernels.text import view_text

        view = view_text(texts)
        numbers = not self.kinds.isdisjoint(("phone", "card", "ssn", "iban"))
        candidates = find_candidates(view, _prefix_tree(), numbers=numbers)
        found: list[list[Item] | None] = [[] if valid else None for valid in view.valid.tolist()]
        data = memoryview(view.data)  # type: ignore[arg-type]
        bounds = view.offsets.tolist()
        for text, begin, end, kind in zip(*(column.tolist() for column in candidates), strict=True):
            check = _CHECKS[kind]
            items = found[text]
            assert items is not None
            # A long text may hold many candidates within one item already found: they are not looked at.
            if items and items[-1].kind == "key" and begin < items[-1].end + bounds[text]:
                continue
            if items and items[-1].kind == "iban":  # the number that begins in it goes on after it
                begin = max(begin, items[-1].end + bounds[text])
                while begin < end and data[begin] == 0x20:
                    begin += 1
                if begin >= end:
                    continue
            place = _Place(data, bounds[text], bounds[text + 1], begin, end)
            items += [
                Item(item.start - bounds[text], item.end - bounds[text], item.kind)
                for item in check(place, self)
                if item.kind in self.kinds
            ]
        return [items if items is None else _apart(items) for items in found]


def check_kinds(kinds: Iterable[str]) -> None:
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"'{kind}' is no kind of personal data.{suggest(kind, KINDS)}")


def check_regions(regions: Iterable[str]) -> None:
    """Raises FactoryError for what the numbering plans do not know; imports them."""
    import phonenumbers

    for region in regions:
        if region not in phonenumbers.SUPPORTED_REGIONS:
            raise FactoryError(f"pii: '{region}' is no region with phone numbers; they look like US, GB, DE.")


class _Place(NamedTuple):
    """A candidate in the bytes it stands in; `first` and `last` bound its text."""

    data: memoryview
    first: int
    last: int
    begin: int
    end: int

    def before(self, width: int) -> bytes:
        return bytes(self.data[max(self.first, self.begin - width) : self.begin])

    def after(self, width: int) -> bytes:
        return bytes(self.data[self.end : min(self.last, self.end + width)])

    def itself(self) -> bytes:
        return bytes(self.data[self.begin : self.end])


def _apart(items: list[Item]) -> list[Item]:
    """Sorted; what overlaps is one item, of the first of its kinds in KINDS, so that no part of any is left over."""
    if len(items) < 2:
        return items
    kept: list[Item] = []
    for item in sorted(items):
        if kept and kept[-1].end > item.start:
            other = kept.pop()
            kind = min(other.kind, item.kind, key=KINDS.index)
            item = Item(other.start, max(other.end, item.end), kind)
        kept.append(item)
    return kept


# Addresses

_LOCAL = re.compile(r"[A-Za-z0-9._%+'~\u00c0-\u024f-]{1,65}\Z")
_HOST = re.compile(r"[A-Za-z0-9.\u00c0-\u024f-]{1,255}")
_LABEL = re.compile(r"[A-Za-z0-9\u00c0-\u024f](?:[A-Za-z0-9\u00c0-\u024f-]{0,61}[A-Za-z0-9\u00c0-\u024f])?")
_CREDENTIALS = re.compile(rb"([^\s:@/<>\"'(){}\[\]]{1,64}):([^\s:@/<>\"'(){}\[\]]{1,128})")
_PLACEHOLDERS = re.compile(
    rb"(?:user(?:name)?|login|name|usr):(?:pass(?:w(?:or)?d)?|secret|pwd|pw)|.{0,64}:(?:[*.x$]|%[sd]).{0,128}",
    re.IGNORECASE,
)
_SERVICES = frozenset(("git", "hg", "svn"))


def _at_sign(place: _Place, detector: Detector) -> list[Item]:
    left = place.before(200)
    authority = left.rfind(b"://")
    if authority >= 0:
        said = left[authority + 3 :]
        if _CREDENTIALS.fullmatch(said):
            if _PLACEHOLDERS.fullmatch(said) or not place.after(1).isalnum():
                return []
            return [Item(place.begin - len(said), place.begin, "url_credentials")]
        if b"/" not in said and not any(byte <= 0x20 for byte in said):
            return []  # https://name@host
    if "email" not in detector.kinds:
        return []
    found = _LOCAL.search(left[-140:].decode("utf-8", "ignore"))
    host = _host(place.after(260).decode("utf-8", "ignore")) if found else ""
    if not found or not host or len(found[0]) > 64:
        return []
    local = re.sub(r"^(?:[._+'~-]|%[0-9A-Fa-f]{2}|%)+", "", found[0])
    start = place.begin - len(local.encode())
    if not local or local.endswith(".") or ".." in local or local.lower() in _SERVICES:
        return []
    if f"{local}@{host}" in FINEWEB_EMAILS or not any(letter.isalnum() for letter in local):
        return []
    if start > place.first and place.data[start - 1] == 0x40:  # a handle of the fediverse
        return []
    return [Item(start, place.end + len(host.encode()), "email")]


def _host(text: str) -> str:
    """The host at the front of a text, up to the last label that is a public ending; empty where there is none."""
    found = _HOST.match(text)
    if not found:
        return ""
    labels = found[0].split(".")
    if "example" in labels[1:]:  # reserved by RFC 2606, and what `redact` writes
        return ""
    for count in range(min(len(labels), 10), 1, -1):
        ending = labels[count - 1]
        if ending.lower() not in top_level_domains() or not all(map(_LABEL.fullmatch, labels[: count - 1])):
            continue
        if count > 2 and ending.istitle() and labels[count - 2] in top_level_domains():
            continue  # the first word of a sentence: me@there.com.Contact
        host = ".".join(labels[:count])
        return "" if text[len(host) : len(host) + 1] in ("(", "_") else host
    return ""


_VERSION = re.compile(
    rb"(?:\bv(?:er(?:sion)?s?)?|release[ds]?|firmware|build|rev(?:ision)?|section|chapter|clause|table|fig(?:ure)?|\xc2\xa7|"
    rb"\bsee|\boid|kernel|driver|update[ds]?|upgrade[ds]?|install(?:ed)?)[\s.:#=\"'(]{0,5}(?:to |number |no\.? |is )?\Z",
    re.IGNORECASE,
)
_NETWORK = re.compile(rb"\b(?:dns|server|ip|host|ping|gateway|router|proxy|nameserver)\b", re.IGNORECASE)
_DNS = frozenset(  # public resolvers, which BigCode leaves as they are
    (
        *("8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "149.112.112.112"),
        *("208.67.222.222", "208.67.220.220", "4.2.2.1", "4.2.2.2"),
    )
)


def _ipv4(place: _Place, detector: Detector) -> list[Item]:
    value = place.itself().decode()
    if value in _DNS or value in FINEWEB_IPS or not _is_public(value):
        return []
    before, after = place.before(100), place.after(3)
    if before[-1:].isalnum() or (before[-1:] in (b"_", b"-", b".", b"/") and not before.endswith(b"//")):
        return []
    if after[:1] == b"_" or after[:1].isalpha() or (after[:1] in (b"-", b".", b"+") and after[1:2].isalnum()):
        return []
    if _VERSION.search(before[-30:]):
        return []
    # Two groups of one digit make it as likely the number of a section or a version.
    if sum(len(group) == 1 for group in value.split(".")) >= 2 and (
        before[-1:] in (b"", b"\n") or not _NETWORK.search(before[-40:] + b" " + place.after(20))
    ):
        return []
    return [Item(place.begin, place.end, "ipv4")]


def _ipv6(place: _Place, detector: Detector) -> list[Item]:
    value = place.itself().rstrip(b":") if not place.itself().endswith(b"::") else place.itself()
    if place.after(1).isalnum() and value == place.itself():
        return []
    return [Item(place.begin, place.begin + len(value), "ipv6")] if _is_public(value.decode()) else []


@lru_cache(maxsize=4096)
def _is_public(value: str) -> bool:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    return address.is_global and not address.is_multicast


# Numbers

_NO_NUMBER = re.compile(
    rb"\b(?:isbn|issn|doi|arxiv|pmid|pmcid|oclc|lccn|ean|gtin|upc|asin|orcid)(?:[-\s]?1[03])?[\s:.#/=)\]]{0,4}[\w./-]{0,20}\Z"
    rb"|#[ ]?\Z",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(?<!\d)(?:(?:1[5-9]|20)\d\d[-./](?:0?[1-9]|1[0-2])[-./](?:0?[1-9]|[12]\d|3[01])(?!\d)"
    r"|(?:0?[1-9]|[12]\d|3[01])[-./](?:0?[1-9]|[12]\d|3[01])[-./](?:(?:1[89]|20)\d\d|\d\d)(?!\d)"
    r"|(?:1[5-9]|20)\d\d ?[-\u2010-\u2013/] ?(?:1[5-9]|20)\d\d(?!\d))"
)
_SPLIT = re.compile(r" / |  {1,3}| - |/| (?=\()|(?<=\d)(?=\()")
_CARD_WITHIN = re.compile(r"(?<!\d)(?:\d{12,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?)(?!\d)")
_TOUCHES_BEFORE = frozenset(b"/=&%#@\\-.$*^~_,?|[{")
_TOUCHES_AFTER = frozenset(b"_%@=/\\^{")


def _number(place: _Place, detector: Detector) -> list[Item]:
    if _is_part_of_more(place):
        return []
    while place.data[place.begin] in b"( " and not _closes(place):  # the whole number stands in parentheses
        place = place._replace(begin=place.begin + 1)
    before = place.before(60)
    if _NO_NUMBER.search(before):
        return []
    if _CALLED_AFTER.match(place.after(16)):
        before += b" tel "
    text = place.itself().decode("utf-8", "ignore")
    return [
        _within(place, text, start, end, kind) for kind, start, end in _numbers(text, 0, len(text), before, detector)
    ]


def _numbers(text: str, start: int, end: int, before: bytes, detector: Detector) -> Iterator[tuple[str, int, int]]:
    """The whole stretch is one number; or what its signs part are several; or cards stand in it with only a blank between."""
    while end > start and text[end - 1] not in _DIGITS:
        end -= 1
    while start < end and (text[start] in " -./)\xa0" or (text[start] == "(" and ")" not in text[start:end])):
        start += 1
    digits = "".join(letter for letter in text[start:end] if letter in _DIGITS)
    if len(digits) < 7 or digits.startswith("000"):  # no number of these kinds does, but those `redact` writes
        return
    kind = _kind_of_number(text[start:end], digits, before, detector)
    if kind:
        yield kind, start, end
        return
    parts = [part.span() for part in _SPLIT.finditer(text, start, end) if part.start() > start]
    if not parts and "card" in detector.kinds:
        parts = [found.span() for found in _CARD_WITHIN.finditer(text, start, end)]
        parts = [
            (a, b)
            for a, b in parts
            if b - a < end - start and _is_card(text[a:b], re.sub(r"\D", "", text[a:b]), before)
        ]
        for a, b in parts:
            yield "card", a, b
    if parts:
        for a, b in zip([start, *(b for _, b in parts)], [*(a for a, _ in parts), end], strict=True):
            yield from _numbers(text, a, b, before, detector)


def _is_part_of_more(place: _Place) -> bool:
    """Whether a sign or letter that touches the number makes it a part of an address, a path, an amount or a formula."""
    sign = place.data[place.begin - 1] if place.begin > place.first else 0x20
    # "Tel.020": a sign after the word is no part of the number.
    if chr(sign).isalnum() and sign < 0x80:
        return True
    if sign in _TOUCHES_BEFORE and (sign in b"=&%@\\" or not _CALLS.search(place.before(12)[:-1])):
        return True
    after = place.after(4)
    if not after or not (after[0] in _TOUCHES_AFTER or after[:1].isalpha()):
        return False
    return not after.lower().startswith((b"ext", b"x"))


def _closes(place: _Place) -> bool:
    text = place.itself()
    return text.startswith(b"(") and text.count(b"(") == text.count(b")")


_DIGITS = frozenset("0123456789")


def _within(place: _Place, text: str, start: int, end: int, kind: str) -> Item:
    return Item(place.begin + len(text[:start].encode()), place.begin + len(text[:end].encode()), kind)


def _kind_of_number(text: str, digits: str, before: bytes, detector: Detector) -> str | None:
    """What a number is that takes all these digits."""
    if "card" in detector.kinds and 12 <= len(digits) <= 19 and _is_card(text, digits, before):
        return "card"
    if "ssn" in detector.kinds and len(digits) == 9 and _is_ssn(text, before):
        return "ssn"
    if "phone" in detector.kinds and 7 <= len(digits) <= 16:
        called = bool(_CALLS.search(before))
        if _DATE.search(text) or (not called and digits[:3] in ("978", "979") and len(digits) == 13):
            return None
        if _is_phone(text, digits, called, detector.regions):
            return "phone"
    return None


def _is_card(text: str, digits: str, before: bytes) -> bool:
    groups = re.findall(r"\d{1,20}", text)
    if not passes_luhn(digits) or len(set(re.findall(r"[^\d]{1,4}", text))) > 1 or len(set(digits)) < 2:
        return False
    if len(groups) > 1:
        sizes = [len(group) for group in groups]
        if sizes not in ([4, 6, 5], [4, 6, 4]) and (set(sizes[:-1]) != {4} or sizes[-1] > 4 or len(digits) < 15):
            return False
    return _CARD.fullmatch(digits) is not None or _CARD_WORD.search(before) is not None


_CARD_WORD = re.compile(rb"\b(?:credit|debit|visa|mastercard|amex|american express|card)\b[^\n]{0,30}\Z", re.IGNORECASE)
# First digits and lengths by network: Visa, Mastercard, American Express, Discover, Diners Club, JCB, UnionPay, Mir, Maestro.
_CARD = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|(?:6011\d\d|64[4-9]\d{3}|65\d{4})\d{10,13}|(?:30[0-5]\d|3095|36\d\d|3[89]\d\d)\d{10}"
    r"|35(?:2[89]|[3-8]\d)\d{12}|(?:2131|1800)\d{11}|62\d{14,17}|220[0-4]\d{12}"
    r"|(?:50\d\d|5[678]\d\d|6304|6390|67(?:59|6[123]))\d{8,12}"
)


def passes_luhn(digits: str) -> bool:
    """The check digit of cards (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, letter in enumerate(reversed(digits)):
        value = int(letter) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


_SSN = re.compile(r"(?!000|666|9)\d{3}([- ])(?!00)\d\d\1(?!0000)\d{4}")
_SSN_WORD = re.compile(rb"\b(?:ssn|social[ -]security)\b", re.IGNORECASE)


def _is_ssn(text: str, before: bytes) -> bool:
    found = _SSN.fullmatch(text)
    return found is not None and (found[1] == "-" or _SSN_WORD.search(before) is not None)


_CALLS = re.compile(
    rb"(?<![<\w])(?:tel|tele|t\xc3\xa9l|phone|phones|telephone|t\xc3\xa9l\xc3\xa9phone|telefon|tel\xc3\xa9fono|telefone|telefono|fon|"
    rb"call|calls|calling|fax|mobile|mobil|cell|cellular|contact|dial|whatsapp|sms|hotline|helpline)\b"
    rb"[^\n]{0,30}\Z",
    re.IGNORECASE,
)


_CALLED_AFTER = re.compile(rb"[\s,(-]{0,3}(?:office|fax|tel|phone|mobile|mobil|cell)\b", re.IGNORECASE)


_INTERNATIONAL = re.compile(r"\(?\+\(?\d")


@lru_cache(maxsize=1 << 16)
def _is_phone(text: str, digits: str, called: bool, regions: tuple[str, ...]) -> bool:
    import phonenumbers

    groups = [len(group) for group in re.findall(r"\d{1,120}", text)]
    international = _INTERNATIONAL.match(text) is not None
    if text.count("(") != text.count(")") or text.count("(") > 2:
        return False
    if len(groups) == 2 and "." in text and not called:
        return False  # a decimal number
    if not international and not called and len(groups) == 1:
        return False  # an identifier
    for region in (None,) if international else regions:
        try:
            number = phonenumbers.parse(text, region)
        except phonenumbers.NumberParseException:
            continue
        if international and len(groups) > 1 and phonenumbers.is_possible_number(number):
            return True
        if not phonenumbers.is_valid_number(number):
            continue
        if international or called or digits.startswith("00"):
            return True
        if _is_written_as_phone(text, digits, groups, region):
            return True
    return False


def _is_written_as_phone(text: str, digits: str, groups: Sequence[int], region: str | None) -> bool:
    """Whether a national number that nothing announces looks like one."""
    import phonenumbers

    if max(groups) > 8:
        return False
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(region or "")
    if metadata is None:
        return False
    if metadata.country_code == 1:
        return groups[-3:] == [3, 3, 4] and (len(groups) == 3 or (len(groups) == 4 and digits[0] == "1"))
    trunk = metadata.national_prefix
    if trunk and not digits.startswith(trunk):
        return False
    # Without a trunk prefix, such as in Spain or Norway, two groups are too little to tell from two numbers.
    return min(groups[1:]) >= 2 and (bool(trunk) or len(groups) >= 3)


# The lengths of IBANs by country (SWIFT's registry, release 99).
_IBAN_LENGTHS = {
    country: int(length)
    for length, countries in re.findall(
        r"(\d\d):((?: [A-Z]{2})+)",
        "15: NO 16: BE 18: DK FO FI GL NL SD FK 19: MK SI 20: AT BA EE KZ XK LT LU MN 21: CR HR LV LI CH 22: BH BG GE DE IE ME"
        " RS GB VA 23: TL GI IQ IL OM SO AE 24: AD CZ MD PK RO SA SK ES SE TN VG 25: LY PT ST 26: IS TR 27: BI DJ FR GR IT"
        " MR MC SM 28: AL AZ BY CY DO SV GT HU LB NI PL 29: BR EG PS QA UA 30: JO KW MU YE 31: MT SC 32: LC 33: RU",
    )
    for country in countries.split()
}
_IBAN_TEXT = re.compile(rb"[A-Z]{2}\d\d(?:[ ]?[A-Z0-9]){8,31}")


def _iban(place: _Place, detector: Detector) -> list[Item]:
    country = place.itself().decode()
    length = _IBAN_LENGTHS.get(country)
    found = _IBAN_TEXT.match(place.itself() + place.after(80)) if length else None
    if not found or length is None:
        return []
    letters, width = 0, 0
    for byte in found[0]:
        letters += byte != 0x20
        width += 1
        if letters == length:
            break
    following = bytes(place.data[place.begin + width : min(place.last, place.begin + width + 1)])
    if letters < length or following.isalnum() or following == b"_":
        return []
    value = found[0][:width].replace(b" ", b"").decode()
    return [Item(place.begin, place.begin + width, "iban")] if passes_mod_97(value) else []


def passes_mod_97(value: str) -> bool:
    """The check digits of an IBAN (ISO 13616, by ISO/IEC 7064); 00, 01 and 99 are never given."""
    if value[2:4] in ("00", "01", "99"):
        return False
    return int("".join(str(int(letter, 36)) for letter in value[4:] + value[:4])) % 97 == 1


# Keys

# A beginning, and the whole key: what varies in it is group 1, and must look random.
_KEYS: dict[bytes, re.Pattern[bytes]] = {
    b"AKIA": re.compile(rb"AKIA([A-Z2-7]{16})(?![A-Za-z0-9])"),
    b"ASIA": re.compile(rb"ASIA([A-Z2-7]{16})(?![A-Za-z0-9])"),
    **{
        prefix: re.compile(prefix + rb"([A-Za-z0-9]{36,251})(?![A-Za-z0-9])")
        for prefix in (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_")
    },
    b"github_pat_": re.compile(rb"github_pat_([A-Za-z0-9]{22}_[A-Za-z0-9]{59})"),
    b"glpat-": re.compile(rb"glpat-([A-Za-z0-9_-]{20,64})"),
    b"xox": re.compile(rb"xox[abeoprs]-([A-Za-z0-9-]{20,250})"),
    b"sk-": re.compile(rb"sk-(?:proj-|ant-|svcacct-|or-v1-|admin-)?([A-Za-z0-9_-]{20,220})"),
    b"sk_live_": re.compile(rb"sk_live_([A-Za-z0-9]{16,128})"),
    b"rk_live_": re.compile(rb"rk_live_([A-Za-z0-9]{16,128})"),
    b"AIza": re.compile(rb"AIza([A-Za-z0-9_-]{35})(?![A-Za-z0-9_-])"),
    b"npm_": re.compile(rb"npm_([A-Za-z0-9]{36})(?![A-Za-z0-9])"),
    b"hf_": re.compile(rb"hf_([A-Za-z0-9]{34,40})(?![A-Za-z0-9])"),
    b"SG.": re.compile(rb"SG\.([A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64})"),
    b"ya29.": re.compile(rb"ya29\.([A-Za-z0-9_-]{40,400})"),
    b"dop_v1_": re.compile(rb"dop_v1_([0-9a-f]{64})"),
    b"pypi-": re.compile(rb"pypi-(AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,400})"),
    b"GOCSPX-": re.compile(rb"GOCSPX-([A-Za-z0-9_-]{28})"),
    b"shpat_": re.compile(rb"shpat_([0-9a-fA-F]{32})"),
    b"eyJ": re.compile(rb"eyJ[A-Za-z0-9_-]{8,2000}+\.eyJ[A-Za-z0-9_-]{8,4000}+\.([A-Za-z0-9_-]{16,2000})"),
    b"-----BEGIN ": re.compile(
        rb"-----BEGIN (?:[A-Z0-9]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----"
        rb"((?:[A-Za-z0-9+/=\s:,.]|-(?!-)){64,8000}+)-----END [A-Z0-9 ]{1,40}-----"
    ),
}
_LONGEST_KEY = 8200
_MADE_UP = re.compile(rb"xxxx|\.\.\.|your[-_]|(.)\1{7}", re.IGNORECASE)


@cache
def _prefix_tree() -> Any:
    from factory.kernels.personal import build_prefixes

    # The tree stops at the shortest of its prefixes; none of these begins another.
    return build_prefixes(sorted(_KEYS))


def _key(place: _Place, detector: Detector) -> list[Item]:
    if "key" not in detector.kinds:
        return []
    prefix = place.itself()
    room = place.after(_LONGEST_KEY if prefix in (b"eyJ", b"-----BEGIN ") else 512)
    found = _KEYS[prefix].match(prefix + room)
    if not found or _MADE_UP.search(found[1]) or entropy(found[1]) < 2.7:
        return []
    if prefix == b"sk-" and (sum(48 <= byte < 58 for byte in found[1]) < 2 or entropy(found[1]) < 3.5):
        return []  # names of packages and style classes
    return [Item(place.begin, place.begin + found.end(), "key")]


def entropy(value: bytes) -> float:
    """Bits a byte, by the frequency of bytes in it."""
    size = len(value)
    return -sum(count / size * math.log2(count / size) for count in Counter(value).values()) if size else 0.0


# In the order of the kinds of factory.kernels.personal: AT, NUMBER, IPV4, IPV6, IBAN, PREFIX.
_CHECKS: dict[int, Callable[[_Place, Detector], list[Item]]] = {
    1: _at_sign,
    2: _number,
    3: _ipv4,
    4: _ipv6,
    5: _iban,
    6: _key,
}
