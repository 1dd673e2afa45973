"""From bytes to characters, with a word on how the encoding was found.

The first of these that reads all bytes: a byte order mark, valid UTF-8, the charset of the HTTP header, the one the page
declares in its first 1,024 bytes, a detector that knows byte statistics. UTF-8 goes before the declarations because other
encodings are practically never valid UTF-8 by chance, and wrong declarations are common. Labels mean what the WHATWG
Encoding Standard says they mean (iso-8859-1 is windows-1252, euc-kr is what Windows wrote); a declared encoding that would
turn bytes into control characters is taken for wrong. Bytes that fit nothing become U+FFFD, and `how` is "lossy".
"""

import codecs
import re
from collections import Counter
from typing import NamedTuple

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META_BYTES = 1024
_META = re.compile(
    rb"<meta\b[^>]{0,500}?\bcharset\s{0,20}=\s{0,20}[\"']?\s{0,20}([a-zA-Z0-9_:.\-]{1,40})", re.IGNORECASE
)
_XML = re.compile(
    rb"\s{0,200}<\?xml\b[^>]{0,200}?\bencoding\s{0,20}=\s{0,20}[\"']([a-zA-Z0-9_:.\-]{1,40})", re.IGNORECASE
)
_HEADER = re.compile(r"charset\s{0,20}=\s{0,20}[\"']?([^\s;\"',]{1,40})", re.IGNORECASE)

# Python's codec for what browsers read under these names: the supersets that are on the web, not the narrow standards.
_CODECS = {
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "big5": "big5hkscs",
    "iso8859-11": "cp874",
    "iso-2022-jp": "iso2022_jp_ext",
    "iso2022_jp": "iso2022_jp_ext",
}
_EXTRA_LABELS = {"x-mac-cyrillic": "mac_cyrillic"}
# The commonest characters of running text. The detector of resiliparse 2.0.1 knows multi-byte encodings only by the escape
# and leading bytes: it called 4 of 5 Japanese and all Korean texts utf-8.
_JAPANESE = frozenset("のにはをたがでてとしれさいるなもかあこすらりまよう、。ンスルトリアイクドラレシジーッ")
_KOREAN = frozenset(
    "이다는의에을고가를은하로지한기서사도시인자리어해대나그정으들일수라여것했있만구보아전원니과제상스부"
)
_FREQUENT = {
    "cp932": _JAPANESE,
    "euc_jp": _JAPANESE,
    "cp949": _KOREAN,
    "gb18030": frozenset(
        "的一是不了在人有我他这中大来上个国到说们为子和你地出时年得就那要下以生会自之过家学对可后小多天而能好，。、"
    ),
    "big5hkscs": frozenset(
        "的一是不了在人有我他這中大來上個國到說們為子和你地出時年得就那要下以生會自之過家學對可後小多天而能好，。、"
    ),
}
_ENOUGH = 0.12
_CONTROLS = re.compile("[\x80-\x84\x86-\x9f]")  # U+0085 is a line end in some mainframe texts
_DETECTOR_BYTES = 131_072


class Decoded(NamedTuple):
    """`charset` is a name Python knows; `how` is one of bom, utf8, header, meta, detected, lossy."""

    text: str
    charset: str
    how: str


def decode(payload: bytes, content_type: str) -> Decoded:
    """The characters of a page."""
    for mark, encoding in _BOMS:
        if payload.startswith(mark):
            return _leniently(payload[len(mark) :], encoding, "bom")
    if payload.isascii():
        # ASCII bytes mean something else only in encodings that shift with escapes, or that write NUL between letters.
        if b"\x1b" not in payload and b"\0" not in payload[:64]:
            return Decoded(payload.decode("ascii"), "utf-8", "utf8")
    else:
        try:
            return Decoded(payload.decode(), "utf-8", "utf8")
        except UnicodeDecodeError:
            if (nearly := _nearly_utf8(payload)) is not None:
                return nearly
    for label, how in _labels(payload, content_type):
        encoding_or_none = codec_for(label)
        if encoding_or_none is None:
            continue
        text = _strictly(payload, encoding_or_none)
        if text is not None:
            return Decoded(text, encoding_or_none, how)
    if payload.isascii():
        return Decoded(payload.decode("ascii"), "utf-8", "utf8")
    return _detected(payload)


def codec_for(label: str) -> str | None:
    """Python's name of the encoding a label means on the web, or None where browsers know no such label."""
    from resiliparse.parse.encoding import map_encoding_to_html5

    label = label.strip().lower()
    known = _EXTRA_LABELS.get(label) or map_encoding_to_html5(label, fallback_utf8=False)
    return _CODECS.get(known, known) if known else None


def _labels(payload: bytes, content_type: str) -> list[tuple[str, str]]:
    header = _HEADER.search(content_type)
    head = payload[:_META_BYTES]
    declared = _META.search(head) or _XML.match(head)
    labels = [(header[1], "header")] if header else []
    if declared:
        label = declared[1].decode("ascii")
        # A page that can be read as ASCII up to its declaration is not UTF-16, whatever it says (WHATWG HTML, 13.2.3.2).
        labels.append(("utf-8" if label.lower().startswith("utf-16") else label, "meta"))
    return labels


def _strictly(payload: bytes, encoding: str) -> str | None:
    try:
        text = payload.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return None
    return None if _CONTROLS.search(text) else text


def _leniently(payload: bytes, encoding: str, how: str) -> Decoded:
    try:
        return Decoded(payload.decode(encoding), encoding, how)
    except UnicodeDecodeError:
        return Decoded(payload.decode(encoding, "replace"), encoding, "lossy")


def _nearly_utf8(payload: bytes) -> Decoded | None:
    """UTF-8 with a few bytes spoilt: a page cut in the middle of a character, or put together from two."""
    text = payload.decode("utf-8", "replace")
    others = len(text) - len(text.encode("ascii", "ignore"))
    spoilt = text.count("\ufffd")
    return Decoded(text, "utf-8", "lossy") if others - spoilt >= 10 and spoilt <= 0.02 * others else None


def _detected(payload: bytes) -> Decoded:
    from resiliparse.parse.encoding import detect_encoding

    sample = payload[:_DETECTOR_BYTES]
    scores = {encoding: _coverage(sample, encoding, frequent) for encoding, frequent in _FREQUENT.items()}
    best = max(scores, key=lambda encoding: scores[encoding])
    guesses = [best] if scores[best] >= _ENOUGH else []
    detected = detect_encoding(payload, _DETECTOR_BYTES) or "utf-8"
    # The detector says utf-8 where it cannot tell; windows-1252 is then by far the likeliest.
    guesses += [_CODECS.get(detected, detected), "cp1252"]
    for guess in guesses:
        text = _strictly(payload, guess)
        if text is not None:
            return Decoded(text, guess, "detected")
    return Decoded(payload.decode(guesses[0], "replace"), guesses[0], "lossy")


def _coverage(sample: bytes, encoding: str, frequent: frozenset[str]) -> float:
    """The share of the characters outside ASCII that are among the commonest of the encoding's language."""
    text = sample.decode(encoding, "ignore")
    counts = Counter(text)
    others = sum(count for character, count in counts.items() if character > "\x7f")
    # Bytes that fit nothing count against the encoding, a character cut at the end of the sample hardly does.
    lost = len(sample) - len(text.encode(encoding, "ignore"))
    return sum(counts[character] for character in frequent) / max(others + lost, 1)
