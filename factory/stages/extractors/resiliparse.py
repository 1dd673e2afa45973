"""Text of a page by resiliparse: main content with its line structure, title and licence link.

Bytes become characters in the order: byte order mark, valid UTF-8, charset of the HTTP header, charset the page declares
in its first 1,024 bytes, detector. UTF-8 goes before the declarations because other encodings are practically never valid
UTF-8 by chance, and wrong declarations are common. A row without payload keeps its text.
"""

import codecs
import re

import pyarrow as pa
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import HTMLTree

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction
from factory.stages.sources.rows import plain_text

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META_BYTES = 1024
_META = re.compile(rb"<meta\b[^>]{0,500}?\bcharset\s*=\s*[\"']?\s*([a-zA-Z0-9_:.\-]{1,40})", re.IGNORECASE)
_XML = re.compile(rb"\s*<\?xml\b[^>]{0,200}?\bencoding\s*=\s*[\"']([a-zA-Z0-9_:.\-]{1,40})", re.IGNORECASE)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s;\"',]+)", re.IGNORECASE)

# The heuristics for main content take time in proportion to the square of how deep these two nest, and parsing to the
# square of how many attributes a tag has: 20,000 take 8 and 0.7 seconds (measured with resiliparse 2.0.1).
_NESTING = re.compile(r"<(/?)(?:[dD][iI][vV]|[aA][rR][tT][iI][cC][lL][eE])\b")
_LONG = 20_000
_LONG_TAG = re.compile(rf"<[a-zA-Z][^<>]{{{_LONG},}}")
_MAX_DEPTH = 1_000
_MAX_ATTRIBUTES = 5_000

_LICENSE = "a[rel~=license][href], link[rel~=license][href]"
_LICENSE_META = ("license", "dcterms.license", "dc.rights", "dcterms.rights")
_MAX_FIELD = 500


class ResiliparseConfig(Config):
    """`main_content` leaves out navigation, footers and side bars; `links` writes the addresses of links into the text."""

    main_content: bool = True
    links: bool = False
    alt_texts: bool = False
    max_html_bytes: int = 10_000_000


class _TooLarge(Exception):
    pass


@register(
    "resiliparse",
    version=1,
    reads=("payload", "content_type", "text", "title", "license", "error"),
    writes={"text": pa.large_string(), "title": pa.string(), "license": pa.string(), "error": pa.string()},
    config=ResiliparseConfig,
)
def resiliparse(config: ResiliparseConfig) -> BatchFunction:
    def extract(batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = zip(*(batch.column(name).to_pylist() for name in ("text", "title", "license", "error")), strict=True)
        payloads, types = batch.column("payload"), batch.column("content_type").to_pylist()
        made = [
            row if not payload.is_valid or row[3] is not None else _extract(payload.as_py(), content_type, config)
            for row, payload, content_type in zip(rows, payloads, types, strict=True)
        ]
        text, title, license, error = zip(*made, strict=True) if made else ((), (), (), ())
        return pa.RecordBatch.from_arrays(
            [
                pa.array(text, pa.large_string()),
                pa.array(title, pa.string()),
                pa.array(license, pa.string()),
                pa.array(error, pa.string()),
            ],
            names=["text", "title", "license", "error"],
        )

    return extract


Extracted = tuple[str | None, str | None, str | None, str | None]


def _extract(payload: bytes, content_type: str | None, config: ResiliparseConfig) -> Extracted:
    if len(payload) > config.max_html_bytes:
        return None, None, None, f"too_large: {len(payload):,} bytes (at most {config.max_html_bytes:,})"
    kind = (content_type or "text/html").partition(";")[0].strip().lower()
    title = license = None
    try:
        html = decode(payload, content_type or "")
        if kind == "text/plain":
            text = plain_text(html)
        else:
            _check_shape(html)
            tree = HTMLTree.parse(html.replace("\0", "") if "\0" in html else html)
            title, license = _title(tree), _license(tree, html)
            text = plain_text(
                extract_plain_text(
                    tree,
                    main_content=config.main_content,
                    links=config.links,
                    alt_texts=config.alt_texts,
                    comments=False,
                )
            ).strip()
    except _TooLarge as error:
        return None, None, None, f"too_large: {error}"
    except Exception as error:  # whatever the parser finds, one page must not end the run; memory errors are not caught
        if isinstance(error, MemoryError):
            raise
        return None, title, license, f"extract: {type(error).__name__}: {error}"[:300]
    if not text or text.isspace():
        return None, title, license, f"no_text: nothing left of {len(payload):,} bytes"
    return text, title, license, None


def decode(payload: bytes, content_type: str) -> str:
    """The characters of a page; bytes that fit no encoding at all become U+FFFD."""
    for mark, encoding in _BOMS:
        if payload.startswith(mark):
            return payload[len(mark) :].decode(encoding, "replace")
    is_ascii = payload.isascii()
    if not is_ascii:
        try:
            return payload.decode()
        except UnicodeDecodeError:
            pass
    for label in _labels(payload, content_type):
        known = map_encoding_to_html5(label, fallback_utf8=False)
        if known is None:
            continue
        try:
            return payload.decode(known)
        except (UnicodeDecodeError, LookupError):
            continue
    return payload.decode("ascii") if is_ascii else payload.decode(detect_encoding(payload) or "utf-8", "replace")


def _labels(payload: bytes, content_type: str) -> list[str]:
    header = _CHARSET.search(content_type)
    head = payload[:_META_BYTES]
    declared = _META.search(head) or _XML.match(head)
    labels = [header[1]] if header else []
    if declared:
        label = declared[1].decode("ascii")
        # A page that can be read as ASCII up to its declaration is not UTF-16, whatever it says (WHATWG HTML, 13.2.3.2).
        labels.append("utf-8" if label.lower().startswith("utf-16") else label)
    return labels


def _check_shape(html: str) -> None:
    if len(html) <= min(_LONG, 5 * _MAX_DEPTH):
        return
    if html.count("<") > _MAX_DEPTH:
        depth = 0
        for match in _NESTING.finditer(html):
            depth = max(depth - 1, 0) if match[1] else depth + 1
            if depth > _MAX_DEPTH:
                raise _TooLarge(f"more than {_MAX_DEPTH:,} blocks within each other")
    # A long tag leaves a stretch of half its length without another "<"; most pages have none and are done here.
    half = _LONG // 2
    if all(html.find("<", start, start + half) >= 0 for start in range(0, len(html) - half + 1, half)):
        return
    for match in _LONG_TAG.finditer(html):
        attributes = match[0].count("=") if "=" in match[0] else len(match[0].split())
        if attributes > _MAX_ATTRIBUTES:
            raise _TooLarge(f"a tag with {attributes:,} attributes")


def _title(tree: HTMLTree) -> str | None:
    return " ".join((tree.title or "").split())[:_MAX_FIELD] or None


def _license(tree: HTMLTree, html: str) -> str | None:
    """The address of the first licence link, else what a licence `meta` says."""
    # The search through the tree costs more than this look, and most pages have no licence.
    if "license" not in html and "ights" not in html:
        return None
    link = tree.document.query_selector(_LICENSE) if tree.document is not None else None
    if link is not None and (href := (link.getattr("href") or "").strip()):
        return href[:_MAX_FIELD]
    head = tree.head
    for meta in head.query_selector_all("meta[name][content]") if head is not None else ():
        if (meta.getattr("name") or "").lower() in _LICENSE_META and (value := (meta.getattr("content") or "").strip()):
            return value[:_MAX_FIELD]
    return None
