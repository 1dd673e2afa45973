"""Text in many languages that every machine has: what the Unicode locale data calls things, and English documentation.

`babel` ships the CLDR: names of languages, countries, currencies, units, months and time zones, and phrases such as "in 3
years", some 30,000 characters a language. English has prose besides: the reference of Python and the docstrings of its
standard library, read from source and never imported. The same installation gives the same text.
"""

import ast
import os
import re
import sysconfig
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import pyarrow as pa

# Languages with enough in the CLDR, by their codes there; `no` stands for Bokmål, `sr` is in Cyrillic.
_CODES = """
af am ar az be bg bn ca cs cy da de el en es et eu fa fi fr ga gl gu he hi hr hu hy id is it ja ka kk km kn ko lo lt lv mk ml
mn mr ms my ne nl no pa pl pt ro ru si sk sl sq sr sv sw ta te th tr uk ur uz vi zh"""
LANGUAGES = tuple(_CODES.split())

_SECTIONS = (
    *("languages", "territories", "scripts", "variants", "currency_names", "currency_names_plural", "months", "days"),
    *(
        "unit_patterns",
        "compound_unit_patterns",
        "unit_display_names",
        "date_fields",
        "day_periods",
        "quarters",
        "eras",
    ),
    *("list_patterns", "interval_formats", "time_zones", "meta_zones"),
)
_PLACE = re.compile(r"\{\d\}|%\(?\d?\)?s|'")

# ASCII and Latin-1 but for letters and the apostrophe, digits of the scripts above, and blocks of nothing but signs.
_NO_LETTER = re.compile(
    "[\x00-\x26\x28-\x60\x7b-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\xd7\xf7\u0660-\u0669\u06d4\u06f0-\u06f9\u0964-\u096f"
    "\u2000-\u2bff\u3000-\u3004\u3008-\u3020\ufe00-\ufe0f\uff00-\uff20\uff3b-\uff40\uff5b-\uff65\ufeff]+"
)


def letters(text: str) -> str:
    """The text in lower case, without what says nothing about its language: digits, signs and white space are spaces."""
    return " ".join(text.translate(_table()).split())


def letters_of(texts: pa.Array) -> pa.Array:
    """`letters` of a column, but for runs of spaces, which separate words as one does."""
    import numpy as np

    from factory.kernels.classifiers import fold
    from factory.kernels.text import view_text

    view = view_text(texts)
    size = int(view.offsets[-1] - view.offsets[0])
    folded, bounds = np.empty(size + size // 2 + 4, np.uint8), np.zeros(len(view.offsets), np.int64)
    fold(*view, _images(), folded, bounds)
    buffers = [
        None if view.valid.all() else pa.array(view.valid).buffers()[1],
        pa.py_buffer(bounds),
        pa.py_buffer(folded),
    ]
    return pa.Array.from_buffers(pa.large_string(), len(texts), buffers)


@cache
def _table() -> dict[int, str]:
    """What becomes of each character that `letters` changes."""
    table = {}
    for code in range(0x20000):  # beyond there are neither cases nor signs of those ranges
        lower = chr(code).lower()[:1]  # the dotted capital I alone becomes two; its dot is a mark of its own
        if _NO_LETTER.match(lower) or 0xD800 <= code <= 0xDFFF or code == 0xFFFD:
            table[code] = " "
        elif lower != chr(code):
            table[code] = lower
    table[0x2019] = "'"
    return table


@cache
def _images() -> Any:
    """The code point each code point becomes."""
    import numpy as np

    images = np.arange(0x110000, dtype=np.int32)
    for code, character in _table().items():
        images[code] = ord(character)
    images.flags.writeable = False
    return images


def phrases(language: str) -> list[str]:
    """What the CLDR says in a language, each phrase once, as `letters`."""
    import babel.localedata

    data = babel.localedata.load(language)
    found = (letters(_PLACE.sub(" ", text)) for section in _SECTIONS for text in _texts(data.get(section, {})))
    return list(dict.fromkeys(phrase for phrase in found if len(phrase) >= 3))


def english_prose() -> list[str]:
    """Paragraphs of the Python documentation that is installed with Python, as `letters`."""
    from pydoc_data.topics import topics

    texts = [topics[topic] for topic in sorted(topics)]
    library = sysconfig.get_path("stdlib")
    modules = sorted(name for name in os.listdir(library) if name.endswith(".py"))
    for name in modules[::4]:  # with the reference, five times what is drawn from it
        texts.extend(_docstrings(os.path.join(library, name)))
    paragraphs = (letters(paragraph) for text in texts for paragraph in text.split("\n\n"))
    return [paragraph for paragraph in paragraphs if len(paragraph) > 20]


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, list | tuple):
        for item in data:
            yield from _texts(item)
    elif hasattr(data, "values"):
        for item in data.values():
            yield from _texts(item)


def _docstrings(path: str) -> Iterator[str]:
    with open(path, "rb") as file:
        source = file.read()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler, about the library's source
        tree = ast.parse(source)
    nodes: list[ast.stmt | ast.Module] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            nodes.extend(node.body)
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring
