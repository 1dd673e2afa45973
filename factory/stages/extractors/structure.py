"""Code, tables and formulas through any extractor unharmed: out of the page before, back into the text after.

Before extraction every code block, inline code, table of data and formula is exchanged for a word that is nowhere on the
page; the extractor decides by what stands around it whether the word is main content; where the word came through, `decode`
puts the piece in its place (the idea of RedStone, arXiv:2412.03398). A code block is fenced, with its language, and its
characters are those of the page; a table of data has pipes where it has a header row, else tabs; a table used for layout
(one column, or more than half of its cells empty) becomes blocks; a formula is TeX between `$` or `$$`. Pages without any
of them are not touched.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from factory.stages.extractors.tex import has_formulas, outermost, replace_delimited, replace_elements

_TAGS = ("<pre", "<code", "<table", "<tt", "<PRE", "<CODE", "<TABLE", "<TT", "<Pre", "<Code", "<Table")
_MOST_PIECES = 20_000
_MOST_TABLES = 1_000
_MOST_CELLS = 50_000
_WIDEST = 200
_TAKEN = "data-taken"  # on what stands for a block, or was a table
_LONG_CELL = 2_000

_LANGUAGE = re.compile(
    r"(?:^|\s)(?:language|lang|highlight-source|highlight-text|highlight|brush:?|sourceCode)[-\s:]\s{0,3}"
    r"([a-zA-Z0-9+#.\-]{1,30})"
)
_NO_LANGUAGES = frozenset(
    ("none", "text", "plaintext", "plain", "txt", "default", "highlighter-rouge", "nohighlight", "notranslate", "source",
     "line", "numberlines")
)  # fmt: skip
_GUTTER_CELLS = "td.linenos, td.gutter, td.rouge-gutter, td.code-gutter, td.hljs-ln-numbers, .linenodiv"
_GUTTER = "span.linenos, span.lineno, span.line-number, span.line-numbers, .line-numbers-rows, a.linenos, button"
_CELL_BLOCKS = "br, p, li, div, dt, dd, h1, h2, h3, h4, h5, h6"
_TICKS = re.compile(r"`+")


class Piece(NamedTuple):
    """`kind` is formula, code_block, table or code (inline)."""

    kind: str
    text: str


def is_structured(html: str) -> bool:
    """Whether a page may hold code, tables or formulas."""
    return any(tag in html for tag in _TAGS) or has_formulas(html)


def encode(html: str, prepare: Callable[[bytes, Any], bytes] = lambda page, look: page) -> "Encoded":
    """The page parsed, with its pieces taken out; `prepare` is applied to its UTF-8 before it is parsed."""
    from resiliparse.parse.html import HTMLTree

    from factory.kernels.pages import look_at

    encoded = Encoded(html)
    if has_formulas(html):
        html = replace_delimited(html, encoded.put_formula)
    data = html.encode("utf-8", "replace")
    encoded.tree = tree = HTMLTree.parse_from_bytes(prepare(data, look_at(data)))
    document = tree.document
    if document is None:
        return encoded
    if has_formulas(html):
        replace_elements(document, encoded.put_formula, document.create_text_node)
    if any(tag in html for tag in _TAGS):
        _take_code(document, encoded)
        if html.count("<td") + html.count("<TD") <= _MOST_CELLS:
            _take_tables(document, encoded)
    return encoded


class Encoded:
    """A page without its pieces (`tree`), and the pieces."""

    def __init__(self, html: str) -> None:
        self.key = "FXK"
        while self.key in html:
            self.key += "Q"
        self.pieces: list[Piece] = []
        self.tree: Any = None
        self._inline = re.compile(rf"{self.key}I(\d{{1,9}})E")
        self._block = re.compile(rf"{self.key}B(\d{{1,9}})E")

    def html(self) -> str:
        """The page without its pieces, as mark-up again, for extractors with a parser of their own."""
        return str(self.tree.document.html) if self.tree.document is not None else ""

    def put_formula(self, tex: str, display: bool) -> str:
        tex = tex.strip()
        return self.put("formula", f"$${tex}$$" if display else f"${tex}$")

    def put(self, kind: str, text: str) -> str:
        """The word that stands for a piece from now on."""
        self.pieces.append(Piece(kind, text))
        return f"{self.key}{'B' if kind in ('code_block', 'table') else 'I'}{len(self.pieces) - 1}E"

    def is_full(self) -> bool:
        return len(self.pieces) >= _MOST_PIECES

    def fill(self, text: str) -> str:
        """The text with its inline pieces back in place."""
        return self._inline.sub(lambda match: self._piece(match[1]).text, text)

    def decode(self, text: str) -> tuple[str, dict[str, int]]:
        """The extracted text with all pieces back in place, and how many of each kind came through."""
        counts: Counter[str] = Counter()
        first, *rest = self._block.split(text)
        made = [self._filled(first, counts).rstrip() if rest else self._filled(first, counts)]
        for number, after in zip(rest[::2], rest[1::2], strict=True):
            piece = self._piece(number)
            if piece.text:
                counts[piece.kind] += 1
                made.append(self._filled(piece.text, counts))
            if after.strip():
                body = after.lstrip()
                # A line that follows keeps its indentation; a word in the same line has none.
                indentation = after[: len(after) - len(body)].rpartition("\n")[2] if "\n" in after else ""
                made.append(indentation + self._filled(body, counts).rstrip())
        notes = {f"n_{kind}s": count for kind, count in sorted(counts.items()) if kind != "code"}
        return "\n\n".join(part for part in made if part), notes

    def _filled(self, text: str, counts: Counter[str]) -> str:
        counts.update(self._piece(number).kind for number in self._inline.findall(text))
        return self.fill(text)

    def _piece(self, number: str) -> Piece:
        return self.pieces[int(number)] if int(number) < len(self.pieces) else Piece("code", "")


def _take_code(document: Any, encoded: Encoded) -> None:
    for numbers in outermost(document, _GUTTER_CELLS):
        numbers.remove()
    for block in outermost(document, "pre"):
        if encoded.is_full():
            return
        _take_block(document, block, encoded)
    for code in outermost(document, "code, tt"):
        if encoded.is_full():
            return
        text = code.text_content or ""
        if "\n" in text.strip() and _stands_alone(code):
            _take_block(document, code, encoded)
        elif text.strip():
            code.replace_with(document.create_text_node(encoded.put("code", _ticked(" ".join(text.split())))))


def _take_block(document: Any, block: Any, encoded: Encoded) -> None:
    language = _language(block)
    for gutter in outermost(block, _GUTTER):
        gutter.remove()
    for line_break in _find(block, "br"):
        line_break.replace_with(document.create_text_node("\n"))
    text = encoded.fill(block.text_content or "")
    if not text.strip():
        block.remove()
        return
    fence = _fence(text, 3)
    _exchange(document, block, encoded.put("code_block", f"{fence}{language}\n{text.removesuffix(chr(10))}\n{fence}"))


def _exchange(document: Any, node: Any, word: str) -> None:
    paragraph = document.create_element("p")
    paragraph.setattr(_TAKEN, "")
    paragraph.append_child(document.create_text_node(word))
    node.replace_with(paragraph)


def _fence(text: str, least: int) -> str:
    """More back-ticks than stand side by side in the text."""
    return "`" * max(least, 1 + max(map(len, _TICKS.findall(text)), default=0))


def _ticked(text: str) -> str:
    mark = _fence(text, 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{mark}{space}{text}{space}{mark}"


def _stands_alone(code: Any) -> bool:
    """Whether a `code` is a block of its own: it has line breaks, or its parent holds nothing else."""
    if code.query_selector("br") is not None:
        return True
    parent = code.parent
    return parent is not None and (parent.text_content or "").strip() == (code.text_content or "").strip()


def _language(block: Any) -> str:
    inner = block.query_selector("code")
    nodes = [node for node in (inner, block) if node is not None]
    parent = block.parent
    for _ in range(6):
        if parent is None or parent.tag not in ("div", "figure", "td", "tr", "tbody", "table", "span"):
            break
        nodes.append(parent)
        parent = parent.parent
    for node in nodes:
        stated = node.getattr("data-lang") or node.getattr("data-language") or ""
        classes = node.getattr("class") or ""
        for name in (stated, *(match[1] for match in _LANGUAGE.finditer(classes))):
            if name and name.lower() not in _NO_LANGUAGES and re.fullmatch(r"[a-zA-Z0-9+#.\-]{1,30}", name):
                return name.lower()
    return ""


def _take_tables(document: Any, encoded: Encoded) -> None:
    tables = _find(document, "table")
    if len(tables) > _MOST_TABLES:
        return
    # From the innermost out: a table that holds a block or another table is there for layout.
    for table in reversed(tables):
        if encoded.is_full():
            return
        rows = _cells(document, table, encoded)
        if rows is None:
            _unwrap(document, table)
        else:
            caption = table.query_selector("caption")
            title = _flat(caption.text_content) if caption is not None else ""
            text = _pipes(rows) if _has_header(table) else "\n".join("\t".join(row).rstrip("\t") for row in rows)
            _exchange(document, table, encoded.put("table", f"{title}\n\n{text}" if title else text))


def _cells(document: Any, table: Any, encoded: Encoded) -> list[list[str]] | None:
    """The rows of a table of data, or None for a table used for layout."""
    if (table.getattr("role") or "").lower() in ("presentation", "none") or table.query_selector(f"[{_TAKEN}]"):
        return None
    for block in _find(table, _CELL_BLOCKS):
        block.before(document.create_text_node(" "))
    for hidden in outermost(table, "script, style, template"):
        hidden.remove()
    rows: list[list[str]] = []
    for row in _find(table, "tr"):
        cells: list[str] = []
        for cell in row.children.values():
            if cell.tag in ("td", "th") and len(cells) < _WIDEST:
                text = _flat(cell.text_content)
                if len(text) > _LONG_CELL:
                    return None
                cells += [text, *[""] * (min(_span(cell), _WIDEST - len(cells)) - 1)]
        if any(cells):
            rows.append(cells)
    width = max(map(len, rows), default=0)
    filled = sum(bool(cell) for row in rows for cell in row)
    return None if len(rows) < 2 or width < 2 or 2 * filled < len(rows) * width else rows


def _span(cell: Any) -> int:
    value = (cell.getattr("colspan") or "1").strip()
    return max(int(value), 1) if value.isdecimal() and len(value) <= 3 else 1


def _has_header(table: Any) -> bool:
    first = table.query_selector("tr")
    if first is None:
        return False
    if first.parent is not None and first.parent.tag == "thead":
        return True
    tags = [cell.tag for cell in first.children.values()]
    return bool(tags) and all(tag == "th" for tag in tags)


def _pipes(rows: list[list[str]]) -> str:
    width = max(map(len, rows))
    padded = [[cell.replace("|", r"\|") for cell in row] + [""] * (width - len(row)) for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in padded]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])


def _unwrap(document: Any, table: Any) -> None:
    """A table's cells as blocks one after another."""
    box = document.create_element("div")
    box.setattr(_TAKEN, "")
    for row in _find(table, "tr"):
        for cell in row.children.values():
            if cell.tag in ("td", "th"):
                block = document.create_element("div")
                while (child := cell.first_child) is not None:
                    block.append_child(child)
                box.append_child(block)
    table.replace_with(box)


def _find(node: Any, selector: str) -> list[Any]:
    # Walking the node list of resiliparse 2.0.1 itself takes time in proportion to the square of its length.
    found: list[Any] = node.query_selector_all(selector).values()
    return found


def _flat(text: str | None) -> str:
    return " ".join((text or "").split())
