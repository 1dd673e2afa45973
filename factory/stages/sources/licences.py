"""The licence of a text, as an SPDX identifier: a licence file by phrases only it has, a source file by its SPDX header.

Full licence texts are not shipped; each licence is known by sentences that stand in its text and in no other's, so what
names several licences, or changes one, is unknown rather than guessed. Identifiers: spdx.org/licenses.
"""

import re

_MAX = 200_000
_HEADER = re.compile(r"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+()\- ]{2,200})")
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+\-]{0,60}(?: (?:OR|AND|WITH) [A-Za-z0-9][A-Za-z0-9.+\-]{0,60}){0,10}")
_WORDS = re.compile(r"[a-z0-9]+(?:\.[0-9]+)*")
_CC = re.compile(
    r"creative commons (attribution(?: (?:noncommercial|noderivatives|noderivs|sharealike)){0,2}) (\d\.\d)"
)
_CC_CODE = re.compile(rf"{_CC.pattern} international public license")
_CC_PARTS = {"attribution": "BY", "noncommercial": "NC", "noderivatives": "ND", "noderivs": "ND", "sharealike": "SA"}

LICENCE_NAMES = re.compile(
    r"(?:un)?licen[cs]es?(?:[-_.](?:mit|apache|apache-2\.0|bsd|gpl|lgpl|mpl|cc0|asl|2\.0))?(?:\.(?:txt|md|rst|html))?"
    r"|copying(?:\.lesser)?(?:\.(?:txt|md))?|(?:mit|apache|bsd)[-_]licen[cs]e(?:\.(?:txt|md))?",
    re.IGNORECASE,
)

_MIT_GRANT = "permission is hereby granted free of charge to any person obtaining a copy of this software"
_MIT_END = (
    "the above copyright notice and this permission notice shall be included in all copies or substantial portions"
)
_BSD_GRANT = (
    "redistribution and use in source and binary forms with or without modification are permitted provided that"
)
_BSD_BINARY = "redistributions in binary form must reproduce the above copyright notice"
_BSD_NAMES = (
    "may be used to endorse or promote products derived from this software without specific prior written permission"
)
_BSD_ADVERT = (
    "all advertising materials mentioning features or use of this software must display the following acknowledg"
)
_APACHE_NOTICE = (
    "licensed under the apache license version 2.0 the license you may not use this file except in compliance with the"
)
_GPL_END = "end of terms and conditions"

# What must stand in the text, and what must not, in words of small letters and digits. The first that fits is meant.
_PHRASES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("AGPL-3.0", ("gnu affero general public license", "version 3 19 november 2007", "remote network interaction"), ()),
    ("LGPL-3.0", ("gnu lesser general public license version 3 29 june 2007",), ("remote network interaction",)),
    ("LGPL-2.1", ("gnu lesser general public license version 2.1 february 1999",), ()),
    ("LGPL-2.0", ("gnu library general public license version 2 june 1991",), ()),
    (
        "GPL-3.0",
        ("gnu general public license version 3 29 june 2007", _GPL_END),
        ("gnu lesser general public license version 3 29",),
    ),
    ("GPL-2.0", ("gnu general public license version 2 june 1991", _GPL_END), ()),
    ("GFDL-1.3", ("gnu free documentation license version 1.3", "invariant sections"), ()),
    ("GFDL-1.2", ("gnu free documentation license version 1.2", "invariant sections"), ()),
    (
        "Apache-2.0",
        ("apache license version 2.0 january 2004", "terms and conditions for use reproduction and distribution"),
        (),
    ),
    ("Apache-2.0", (_APACHE_NOTICE,), ("terms and conditions for use reproduction and distribution",)),
    ("MPL-2.0", ("mozilla public license version 2.0", "incompatible with secondary licenses"), ()),
    ("EPL-2.0", ("eclipse public license v 2.0", "accompanying program are provided under the terms of this"), ()),
    ("CC0-1.0", ("cc0 1.0 universal", "affirmer"), ()),
    ("Unlicense", ("this is free and unencumbered software released into the public domain",), ()),
    ("BSL-1.0", ("boost software license version 1.0",), ()),
    (
        "Zlib",
        ("this software is provided as is without any express or implied warranty", "altered source versions"),
        (),
    ),
    ("Artistic-2.0", ("the artistic license 2.0",), ()),
    (
        "Artistic-1.0",
        ("the artistic license", "the intent of this document is to state the conditions"),
        ("artistic license 2.0",),
    ),
    ("PSF-2.0", ("python software foundation license version 2",), ()),
    ("BSD-4-Clause", (_BSD_GRANT, _BSD_BINARY, _BSD_ADVERT), ()),
    ("BSD-3-Clause", (_BSD_GRANT, _BSD_BINARY, _BSD_NAMES), (_BSD_ADVERT,)),
    ("BSD-2-Clause", (_BSD_GRANT, _BSD_BINARY), (_BSD_NAMES, _BSD_ADVERT)),
    ("ISC", ("permission to use copy modify and or distribute this software for any purpose with or without fee",), ()),
    (
        "MIT-0",
        (_MIT_GRANT, "to permit persons to whom the software is furnished to do so the software is provided"),
        (_MIT_END,),
    ),
    ("MIT", (_MIT_GRANT, _MIT_END), ("except as contained in this notice",)),
)
# Several stand in one text where it contains the other by design: the wider one says all of it.
_CONTAINS = {"LGPL-3.0": {"GPL-3.0"}, "AGPL-3.0": {"GPL-3.0"}, "PSF-2.0": {"ISC", "MIT"}}


def licence_of(text: str) -> str | None:
    """The licence a file holds, or None where it holds none known, or several."""
    header = spdx_header(text[:4_000])
    if header:
        return header
    words = " ".join(_WORDS.findall(text[:_MAX].lower().replace("(c)", " ")))
    if "usr share common licenses" in words:
        return None  # a list of many files' licences, as Debian keeps it
    found = [
        name for name, wanted, unwanted in _PHRASES if _all_in(words, wanted) and not any(p in words for p in unwanted)
    ]
    cc = _creative_commons(words)
    found += [cc] if cc else []
    for name in list(found):
        found = [other for other in found if other not in _CONTAINS.get(name, ())]
    return found[0] if len(found) == 1 else None


def spdx_header(head: str) -> str | None:
    """The SPDX identifier or expression that stands in the first lines of a file."""
    stated = _HEADER.search(head)
    if stated is None:
        return None
    expression = " ".join(stated[1].replace("(", " ").replace(")", " ").split())
    simple = _SPDX.match(expression)
    return simple[0] if simple else None


def _all_in(words: str, wanted: tuple[str, ...]) -> bool:
    return all(phrase in words for phrase in wanted)


def _creative_commons(words: str) -> str | None:
    # The legal code names itself; of older ones, the title stands in front. A text that only mentions a licence does neither.
    title = _CC_CODE.search(words[:20_000]) or (_CC.search(words[:600]) if "licensor" in words else None)
    if title is None:
        return None
    return "CC-" + "-".join(_CC_PARTS[part] for part in title[1].split()) + f"-{title[2]}"
