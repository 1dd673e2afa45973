"""What a licence allows: from an SPDX identifier or expression, an address or a usual name to one class of use.

The classes, from the freest to the strictest: `open`, `share_alike`, `unknown`, `non_commercial`, `no_derivatives`,
`restricted`. Where several licences hold at once the strictest counts, attribution and share-alike add up; where one may be
chosen (`OR`) the freest does. That is how the Data Provenance audit (arXiv:2310.16787) resolves them: a licence nobody could
read makes the whole `unknown` and never free; a known restriction stays one beside it. Nothing is guessed from a version,
a port or a language that is not written: `CC BY` without a version has a class and no identifier. Identifiers: spdx.org.
"""

import re
from collections.abc import Iterable
from functools import lru_cache, reduce
from typing import NamedTuple

from factory.stages.licences import parse_licence

CLASSES = ("open", "share_alike", "unknown", "non_commercial", "no_derivatives", "restricted")


class Terms(NamedTuple):
    """A flag is None where it is not known; `spdx` is None too where the licence is known and has no identifier."""

    spdx: str | None
    use_class: str
    attribution: bool | None
    share_alike: bool | None
    non_commercial: bool | None
    no_derivatives: bool | None


UNKNOWN = Terms(None, "unknown", None, None, None, None)


def all_of(terms: Iterable[Terms]) -> Terms:
    """What holds where all of them do; nothing at all is unknown."""
    given = list(dict.fromkeys(terms))
    if not given:
        return UNKNOWN
    return reduce(_both, given)


def any_of(terms: Iterable[Terms]) -> Terms:
    """What holds where one of them may be chosen: the terms of the freest, under the name of the choice."""
    given = list(dict.fromkeys(terms))
    if not given:
        return UNKNOWN
    freest = min(given, key=lambda term: CLASSES.index(term.use_class) if term.use_class != "unknown" else 9)
    return freest._replace(spdx=_joined(" OR ", [term.spdx for term in given]))


def _both(one: Terms, other: Terms) -> Terms:
    flags = (_either(a, b) for a, b in zip(one[2:], other[2:], strict=True))
    use_class = max(one.use_class, other.use_class, key=CLASSES.index)
    return Terms(_joined(" AND ", [one.spdx, other.spdx]), use_class, *flags)


def _either(one: bool | None, other: bool | None) -> bool | None:
    if one or other:
        return True
    return None if one is None or other is None else False


def _joined(word: str, names: list[str | None]) -> str | None:
    known = [name for name in names if name]
    if len(known) < len(names):
        return None
    parts = [f"({name})" if " OR " in name and word == " AND " and len(names) > 1 else name for name in known]
    if word == " AND ":
        parts = [piece for part in parts for piece in (part.split(" AND ") if "(" not in part else [part])]
    return word.join(dict.fromkeys(parts))


def _made(use_class: str, *, attribution: bool = True, non_commercial: bool = False) -> Terms:
    return Terms(
        None, use_class, attribution, use_class == "share_alike", non_commercial, use_class == "no_derivatives"
    )


_OPEN = _made("open")
_FREE = _made("open", attribution=False)
_SHARED = _made("share_alike")
_NON_COMMERCIAL = _made("non_commercial", non_commercial=True)
_RESTRICTED = Terms(None, "restricted", None, None, None, None)

_BY_TERMS: tuple[tuple[Terms, str], ...] = (
    (
        _FREE,
        "CC0-1.0 CC-PDM-1.0 CC-PDDC PDDL-1.0 Unlicense 0BSD MIT-0 WTFPL DL-DE-ZERO-2.0 blessing Libpng-0 SAX-PD NIST-PD",
    ),
    (
        _OPEN,
        "MIT X11 MIT-CMU Apache-1.0 Apache-1.1 Apache-2.0 BSD-1-Clause BSD-2-Clause BSD-3-Clause BSD-3-Clause-Clear BSD-4-Clause "
        "BSD-2-Clause-Patent ISC Zlib BSL-1.0 PSF-2.0 Python-2.0 PostgreSQL Artistic-1.0 Artistic-2.0 NCSA HPND AFL-2.1 AFL-3.0 "
        "ECL-2.0 MS-PL UPL-1.0 W3C W3C-20150513 Unicode-3.0 Unicode-DFS-2015 Unicode-DFS-2016 ODC-By-1.0 OGL-UK-1.0 OGL-UK-2.0 "
        "OGL-UK-3.0 OGL-Canada-2.0 CDLA-Permissive-1.0 CDLA-Permissive-2.0 MulanPSL-2.0 etalab-2.0 NLOD-1.0 NLOD-2.0 "
        "DL-DE-BY-2.0 Libpng libpng-2.0 curl TCL IJG OpenSSL PHP-3.01 Ruby BlueOak-1.0.0 LPPL-1.3c OLDAP-2.8 ICU Beerware "
        "Info-ZIP NTP bzip2-1.0.6 FSFAP",
    ),
    (
        _SHARED,
        "GPL-1.0 GPL-2.0 GPL-3.0 LGPL-2.0 LGPL-2.1 LGPL-3.0 AGPL-1.0 AGPL-3.0 MPL-1.0 MPL-1.1 MPL-2.0 EPL-1.0 EPL-2.0 CPL-1.0 "
        "CDDL-1.0 CDDL-1.1 EUPL-1.1 EUPL-1.2 OSL-2.1 OSL-3.0 ODbL-1.0 GFDL-1.1 GFDL-1.2 GFDL-1.3 CECILL-2.0 CECILL-2.1 MS-RL "
        "OFL-1.0 OFL-1.1 CDLA-Sharing-1.0 LAL-1.3 QPL-1.0 Sleepycat IPL-1.0 NPOSL-3.0 Vim",
    ),
    (_NON_COMMERCIAL, "PolyForm-Noncommercial-1.0.0"),
    (_RESTRICTED, "SSPL-1.0 BUSL-1.1 Elastic-2.0"),
)
_WITH_SUFFIX = re.compile(r"(A?GPL|LGPL|GFDL)-(\d\.\d)(-only|-or-later|\+)?", re.IGNORECASE)
_SPDX = {name.lower(): terms._replace(spdx=name) for terms, names in _BY_TERMS for name in names.split()}

# Names without a version, and those of data hubs (huggingface.co/docs/hub/repositories-licenses) and of model makers' terms.
_NAMES: dict[str, Terms] = {
    **dict.fromkeys(("public domain", "public-domain", "pd", "publicdomain"), _FREE),
    **dict.fromkeys(("bsd", "bsd license", "apache", "apache license", "artistic", "odc-by"), _OPEN),
    **dict.fromkeys(("gpl", "gnu gpl", "lgpl", "agpl", "gfdl", "mpl", "epl", "odbl", "copyleft"), _SHARED),
    "pddl": _SPDX["pddl-1.0"],
    "cc0": _SPDX["cc0-1.0"],
    **dict.fromkeys(("mit license", "the mit license", "expat"), _SPDX["mit"]),
    **dict.fromkeys(
        ("non-commercial", "noncommercial", "non commercial", "openai", "openai terms of use", "anthropic"),
        _NON_COMMERCIAL,
    ),
    **dict.fromkeys(
        (
            *("all rights reserved", "proprietary", "commercial", "closed", "no license", "unlicensed", "copyright"),
            *(
                "academic only",
                "academic-only",
                "research only",
                "research-only",
                "openrail",
                "openrail++",
                "creativeml-openrail-m",
            ),
            *(
                "bigscience-openrail-m",
                "bigscience-bloom-rail-1.0",
                "bigcode-openrail-m",
                "llama2",
                "llama3",
                "llama3.1",
            ),
            *("llama3.2", "llama3.3", "gemma", "c-uda", "fair-noncommercial-research-license"),
        ),
        _RESTRICTED,
    ),
}
_VERSIONS = ("1.0", "2.0", "2.5", "3.0", "4.0")
_CC_KINDS = ("by", "by-sa", "by-nc", "by-nd", "by-nc-sa", "by-nc-nd")
_GNU = re.compile(
    r"gnu\.org/(?:licenses|copyleft)/(?:old-licenses/)?(gpl|lgpl|agpl|fdl)(?:-(\d\.\d))?"
    r"|(?:gnu |\b)(affero |lesser |library |free documentation |)(?:general public |)licen[cs]e[, ]{0,2}"
    r"(?:v|version |)(\d(?:\.\d)?)"
    r"|\b(a|l|)gpl[ -]?v?(\d(?:\.\d)?)(?:\+|\b)",
    re.IGNORECASE,
)
_ADDRESS = re.compile(
    r"(?:opensource\.org/licenses?|spdx\.org/licenses|choosealicense\.com/licenses)/([A-Za-z0-9.+-]{2,40}?)(?:\.html|/|$)",
    re.IGNORECASE,
)
_LONGEST = 500
_MOST_TOKENS = 40


@lru_cache(maxsize=4096)
def terms_of(value: str) -> Terms:
    """What a licence, as somebody wrote it, allows; `unknown` where it cannot be told."""
    value = re.sub(r"\s+", " ", value[:_LONGEST].replace("_", " ")).strip().strip('"').rstrip(".")
    if "://" not in value:
        value = value.removeprefix("LicenseRef-").removeprefix("LicenseRef ")
        if re.search(r" (?:AND|OR|WITH) |[()]", value) and (found := _expression(value)):
            return found
        pair = [_single(part.strip()) for part in value.split("/")]  # Cargo's old way of a choice
        if len(pair) == 2 and all(term.spdx for term in pair):
            return any_of(pair)
    return _single(value)


def _single(value: str) -> Terms:
    lower = value.lower().removeprefix("the ")
    known = _SPDX.get(lower) or _NAMES.get(lower)
    if known:
        return known
    if suffixed := _WITH_SUFFIX.fullmatch(value):
        base = _SPDX.get(f"{suffixed[1]}-{suffixed[2]}".lower())
        return base._replace(spdx=f"{base.spdx}{(suffixed[3] or '').lower()}") if base else UNKNOWN
    if (address := _ADDRESS.search(value)) and (
        named := _SPDX.get(address[1].lower()) or _SPDX.get(f"{address[1].lower()}-clause")
    ):
        return named
    made = _from_words(value, lower)
    # "MIT, text all rights reserved": a phrase that takes something back is not read at all.
    is_freer = CLASSES.index(made.use_class) < CLASSES.index("unknown")
    return UNKNOWN if is_freer and "://" not in value and _CAVEAT.search(lower) else made


_CAVEAT = re.compile(
    r"\b(?:all rights|non-?commercial|except|unless|research|academic|educational|personal|not|permission|prohibit\w{0,5}|"
    r"proprietary|without|use only|but|some)\b"
)


def _from_words(value: str, lower: str) -> Terms:
    licence = parse_licence(value)
    if licence.kind:
        return _creative_commons(licence.kind, licence.version)
    if licence.name and licence.name.lower() in _SPDX:
        return _SPDX[licence.name.lower()]
    if "wikipedia:text of" in lower or "creative commons attribution" in lower:
        return _creative_commons_words(lower)
    if "creativecommons.org" not in lower and (gnu := _GNU.search(value)):
        return _gnu(gnu)
    return UNKNOWN


def _creative_commons(kind: str, version: str | None) -> Terms:
    if kind in ("zero", "mark"):
        return _SPDX["cc0-1.0" if kind == "zero" else "cc-pdm-1.0"]
    parts = kind.split("-")
    spdx = f"CC-{kind.upper()}-{version}" if kind in _CC_KINDS and version in _VERSIONS else None
    use_class = (
        "no_derivatives"
        if "nd" in parts
        else "non_commercial"
        if "nc" in parts
        else "share_alike"
        if "sa" in parts
        else "open"
    )
    return Terms(spdx, use_class, "by" in parts, "sa" in parts, "nc" in parts, "nd" in parts)


def _creative_commons_words(lower: str) -> Terms:
    words = re.search(
        r"attribution((?:[ -]{1,2}(?:non-?commercial|share-?alike|no-?derivatives|no-?derivs)){0,2})", lower
    )
    if not words:
        return UNKNOWN
    kind = "by" + ("-nc" if "commercial" in words[1] else "")
    kind += "-sa" if "alike" in words[1] else "-nd" if "deriv" in words[1] else ""
    version = re.search(r"\b([1-4]\.[05])\b", lower)
    return _creative_commons(kind, version[1] if version else None)


def _gnu(found: re.Match[str]) -> Terms:
    address, address_version, words, words_version, letter, short_version = found.groups()
    if address:
        name, version = {"fdl": "GFDL"}.get(address.lower(), address.upper()), address_version
    elif words is not None:
        first = words.strip().lower()
        if not first and "general public" not in found[0].lower():
            return UNKNOWN
        name = {"affero": "AGPL", "free documentation": "GFDL", "": "GPL"}.get(first, "LGPL")
        version = words_version
    else:
        name, version = f"{letter.upper()}GPL", short_version
    if version and "." not in version:
        version += ".0"
    known = _SPDX.get(f"{name}-{version}".lower()) if version else None
    return known or _SHARED


def _expression(value: str) -> Terms | None:
    """An SPDX expression: WITH binds before AND, AND before OR; None for what is none."""
    tokens = re.findall(r"[()]|[^\s()]{1,100}", value)
    if len(tokens) > _MOST_TOKENS:
        return None
    try:
        terms, rest = _choice(tokens)
    except IndexError:
        return None
    return None if rest else terms


def _choice(tokens: list[str]) -> tuple[Terms, list[str]]:
    term, tokens = _sum(tokens)
    options = [term]
    while tokens and tokens[0] == "OR":
        term, tokens = _sum(tokens[1:])
        options.append(term)
    return any_of(options), tokens


def _sum(tokens: list[str]) -> tuple[Terms, list[str]]:
    term, tokens = _atom(tokens)
    parts = [term]
    while tokens and tokens[0] == "AND":
        term, tokens = _atom(tokens[1:])
        parts.append(term)
    return all_of(parts), tokens


def _atom(tokens: list[str]) -> tuple[Terms, list[str]]:
    if tokens[0] == "(":
        term, tokens = _choice(tokens[1:])
        if tokens[0] != ")":
            raise IndexError
        return term, tokens[1:]
    term, tokens = _single(tokens[0].removeprefix("LicenseRef-")), tokens[1:]
    if tokens and tokens[0] == "WITH":  # an exception only ever adds permissions
        name = f"{term.spdx} WITH {tokens[1]}" if term.spdx else None
        term, tokens = term._replace(spdx=name), tokens[2:]
    return term, tokens
