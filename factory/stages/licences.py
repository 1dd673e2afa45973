"""Names of licences: from an address or a phrase to an SPDX identifier, or nothing where it is not certain."""

import re
from functools import lru_cache
from typing import NamedTuple


class Licence(NamedTuple):
    """`name` is an SPDX identifier; `kind` is by, by-sa, by-nc, ..., zero, mark for Creative Commons, else None."""

    name: str | None
    kind: str | None = None
    version: str | None = None


_CC_ADDRESS = re.compile(
    r"creativecommons\.org/(?:licenses|publicdomain)/"
    r"(by(?:-nc)?(?:-nd|-sa)?|by-nd-nc|nc-sa|nc|sa|nd|zero|mark)(?:/(\d\.\d))?(?:[/?#]|$)",
    re.IGNORECASE,
)
_CC_NAME = re.compile(
    r"\bcc[\s\-]?(?:(0|zero)|(by(?:[\s\-]nc)?(?:[\s\-](?:nd|sa))?))(?:[\s\-]v?(\d\.\d))?(?![\w.])", re.IGNORECASE
)
_CC_WORDS = re.compile(
    r"creative commons (attribution(?:[\s\-–]{1,3}non-?commercial)?(?:[\s\-–]{1,3}(?:share-?alike|no-?deriv\w{0,8}))?)"
    r"(?:[\s\-–]{1,3}v?(\d\.\d))?",
    re.IGNORECASE,
)
_OTHERS = {
    "MIT": re.compile(r"opensource\.org/licenses?/mit\b|\bmit licen[sc]e\b|^mit$", re.IGNORECASE),
    "Apache-2.0": re.compile(
        r"apache\.org/licenses/license-2\.0|opensource\.org/licenses?/apache-2\.0|\bapache(?: licen[sc]e)?[ ,-]{1,3}"
        r"(?:version )?2\.0",
        re.IGNORECASE,
    ),
    "GFDL-1.3": re.compile(r"gnu\.org/licenses/fdl-1\.3|\bgfdl[ -]1\.3", re.IGNORECASE),
    "GFDL-1.2": re.compile(r"gnu\.org/(?:licenses/old-licenses/)?fdl-1\.2|\bgfdl[ -]1\.2", re.IGNORECASE),
    "OGL-UK-3.0": re.compile(r"nationalarchives\.gov\.uk/doc/open-government-licence/version/3", re.IGNORECASE),
    "ODbL-1.0": re.compile(r"opendatacommons\.org/licenses/odbl", re.IGNORECASE),
    "Unlicense": re.compile(r"\bunlicense\.org\b", re.IGNORECASE),
}
_LONGEST = 500


@lru_cache(maxsize=4096)  # the same few addresses on page after page; what comes out depends on the address alone
def parse_licence(value: str) -> Licence:
    """The licence an address or a short phrase names."""
    value = value[:_LONGEST]
    if match := _CC_ADDRESS.search(value):
        return creative_commons(match[1], match[2])
    if match := _CC_NAME.search(value):
        return creative_commons("zero" if match[1] else re.sub(r"\s", "-", match[2]), match[3])
    if match := _CC_WORDS.search(value.replace("_", " ")):
        words = match[1].lower()
        kind = "by" + ("-nc" if "commercial" in words else "")
        kind += "-sa" if "alike" in words else "-nd" if "deriv" in words else ""
        return creative_commons(kind, match[2])
    for name, pattern in _OTHERS.items():
        if pattern.search(value):
            return Licence(name)
    return Licence(None)


def creative_commons(kind: str, version: str | None) -> Licence:
    """The licence of a kind (`by-sa`) and version; public domain without a version is 1.0, the only one there is."""
    kind = kind.lower()
    kind = "by-nc-nd" if kind == "by-nd-nc" else kind
    if kind in ("zero", "mark"):
        return Licence("CC0-1.0" if kind == "zero" else "CC-PDM-1.0", kind, version or "1.0")
    return Licence(f"CC-{kind.upper()}" + (f"-{version}" if version else ""), kind, version)
