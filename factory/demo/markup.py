"""Docstrings, reStructuredText and Markdown as a list of blocks, and blocks as HTML or as plain text.

Not a parser of either language: enough of both to show documentation as its site would, paragraphs as paragraphs and code as
code. Plain text and HTML come from the same blocks, so text written here reads like text extracted from a page.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from inspect import cleandoc


@dataclass(frozen=True, slots=True)
class Block:
    kind: str  # paragraph, heading, code, list or definitions
    text: str = ""
    items: tuple[tuple[str, str], ...] = ()  # (term, text); the term is empty in a list


_FENCE = re.compile(r"\s*(```|~~~)")
_HASHES = re.compile(r"#{1,6}\s+(.+?)\s*#*$")
_UNDERLINE = re.compile(r"([=\-~^\"#*+_.`])\1{2,}\s*$")
_BULLET = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s+(?=\S)")
_FIELD = re.compile(
    r"\s*:(?:param|type|returns?|rtype|raises?|var|ivar|cvar|arg|keyword|yields?)\b\s*([^:\n]{0,100}):\s*(.*)"
)
_DIRECTIVE = re.compile(r"\s*\.\.\s*(?:([\w:-]{1,40})::\s*(.*)|_.*|\[.*|.*)$")
_SECTION = re.compile(
    r"(?:args|arguments|keyword args|parameters|params|returns?|yields?|raises|attributes|examples?|usage"
    r"|notes?|see also|warnings?):$",
    re.I,
)
_NAMED = re.compile(r"(\*{0,2}[A-Za-z_][\w.*, ]{0,60}(?:\s*\([^)\n]{0,120}\))?)\s*:\s+(\S.*)")
_TYPED = re.compile(r"(\*{0,2}[A-Za-z_][\w*]*(?:, \*{0,2}\w+)*)\s:\s(\S.*)")
_CODE_DIRECTIVES = {
    "code-block",
    "code",
    "sourcecode",
    "doctest",
    "testcode",
    "math",
    "parsed-literal",
    "productionlist",
    "plot",
    "ipython",
}
_SPOKEN_DIRECTIVES = {"note": "Note:", "warning": "Warning:", "tip": "Tip:", "important": "Important:", "caution": "Caution:",
                      "seealso": "See also:", "versionadded": "New in version", "versionchanged": "Changed in version",
                      "deprecated": "Deprecated since version", "admonition": "", "rubric": "", "topic": ""}  # fmt: skip
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9]{0,20}(?:\s[^<>]{0,500})?/?>|<!--.{0,2000}?-->", re.S)


def parse(text: str, form: str) -> list[Block]:
    """The blocks of a text in `form`: rst (which docstrings are taken for), markdown, or text."""
    if form == "text":
        return [Block("paragraph", " ".join(part.split())) for part in re.split(r"\n\s*\n", text) if part.strip()]
    if form == "markdown":
        # Tags go, except in code, where they are what the page is about.
        parts = re.split(r"(?ms)^(```.*?^```)", text)
        text = "".join(part if part.startswith("```") else _TAG.sub(" ", part) for part in parts)
    return list(_blocks(cleandoc(text).split("\n")))


def _blocks(lines: list[str]) -> Iterator[Block]:
    position = 0
    while position < len(lines):
        line = lines[position]
        following = lines[position + 1] if position + 1 < len(lines) else ""
        if not line.strip() or (_UNDERLINE.match(line) and not following.strip()):
            position += 1
        elif _FENCE.match(line):
            end = next((at for at in range(position + 1, len(lines)) if _FENCE.match(lines[at])), len(lines))
            yield Block("code", "\n".join(lines[position + 1 : end]))
            position = end + 1
        elif _UNDERLINE.match(line) and following.strip() and not _is_table(line):
            position += 1  # the line above an over- and underlined heading
        elif _UNDERLINE.match(following) and not line.startswith(" ") and not _is_table(following):
            yield Block("heading", line.strip())
            position += 2
        elif found := _HASHES.match(line):
            yield Block("heading", found[1])
            position += 1
        elif line.lstrip().startswith(">>>") or line.lstrip().startswith("$ "):
            end = _until(lines, position, lambda at: not lines[at].strip())
            yield Block("code", cleandoc("\n".join(lines[position:end])))
            position = end
        elif _is_verbatim(line):
            end = _until(lines, position, lambda at: not lines[at].strip())
            yield Block("code", cleandoc("\n" + "\n".join(lines[position:end])))
            position = end
        elif line.lstrip().startswith(".. ") or line.strip() == "..":
            end = _indented(lines, position + 1, _indent(line) + 1)
            yield from _directive(line, lines[position + 1 : end])
            position = end
        elif _SECTION.fullmatch(line.strip()):
            yield Block("heading", line.strip().rstrip(":"))
            end = _indented(lines, position + 1, _indent(line) + 1)
            yield from _section(lines[position + 1 : end])
            position = end
        elif _BULLET.match(line) or _FIELD.match(line):
            block, position = _list(lines, position)
            yield block
        elif _TYPED.fullmatch(line.strip()) and _indent(following) > _indent(line) and following.strip():
            block, position = _definitions(lines, position)
            yield block
        else:
            code_follows, paragraph, position = _paragraph(lines, position)
            if paragraph:
                yield Block("paragraph", paragraph)
            if code_follows:
                end = _indented(lines, position, _indent(line) + 1)
                if code := cleandoc("\n" + "\n".join(lines[position:end])).strip("\n"):
                    yield Block("code", code)
                position = end


def _paragraph(lines: list[str], position: int) -> tuple[bool, str, int]:
    """(whether code follows, the text, where it ends)."""
    start = position
    position = _until(
        lines,
        position + 1,
        lambda at: (
            not lines[at].strip()
            or bool(
                _BULLET.match(lines[at])
                and _indent(lines[at]) <= _indent(lines[start])
                and lines[at - 1].rstrip().endswith(":")
            )
            or bool(_FENCE.match(lines[at]))
            or lines[at].lstrip().startswith(">>>")
            or bool(_FIELD.match(lines[at]))
            or bool(at + 1 < len(lines) and _UNDERLINE.match(lines[at + 1]) and not _is_table(lines[at + 1]))
        ),
    )
    text = " ".join(part.strip() for part in lines[start:position])
    after = next((line for line in lines[position:] if line.strip()), "")
    indented = _indent(after) > _indent(lines[start])
    literal = text.endswith("::") or (text.endswith(":") and not _BULLET.match(after))
    text = text.removesuffix("::").rstrip() + ":" if text.endswith("::") and text != "::" else text
    return indented and literal, "" if text == "::" else text, position


def _directive(line: str, body: list[str]) -> Iterator[Block]:
    found = _DIRECTIVE.match(line)
    name = (found[1] or "").lower() if found else ""
    inner = cleandoc("\n" + "\n".join(body)).strip("\n").split("\n")
    options = _until(inner, 0, lambda at: not re.match(r":[\w-]+:", inner[at]))
    inner = inner[options:]
    if name in _CODE_DIRECTIVES:
        if "\n".join(inner).strip():
            yield Block("code", "\n".join(inner).strip("\n"))
    elif name in _SPOKEN_DIRECTIVES:
        title = " ".join(part for part in (_SPOKEN_DIRECTIVES[name], found[2] if found else "") if part)
        inner_blocks = list(_blocks(inner))
        if inner_blocks and inner_blocks[0].kind == "paragraph":
            yield Block("paragraph", f"{title} {inner_blocks[0].text}".strip())
            yield from inner_blocks[1:]
        else:
            if title:
                yield Block("paragraph", title)
            yield from inner_blocks


def _section(lines: list[str]) -> Iterator[Block]:
    """The body of an `Args:` section: named entries, or whatever else it holds."""
    body = cleandoc("\n" + "\n".join(lines)).split("\n")
    first = next((line for line in body if line.strip()), "")
    if not _NAMED.fullmatch(first):
        yield from _blocks(body)
        return
    items: list[tuple[str, str]] = []
    for line in body:
        found = _NAMED.fullmatch(line)
        if found and _indent(line) == 0:
            items.append((found[1].strip(), found[2]))
        elif line.strip() and items:
            items[-1] = (items[-1][0], f"{items[-1][1]} {line.strip()}")
    yield Block("definitions", items=tuple(items))


def _list(lines: list[str], position: int) -> tuple[Block, int]:
    fields = _FIELD.match(lines[position]) is not None
    marker = _FIELD if fields else _BULLET
    indent = _indent(lines[position])
    items: list[tuple[str, str]] = []
    while position < len(lines):
        line = lines[position]
        found = marker.match(line)
        if found and _indent(line) >= indent:
            items.append((found[1].strip(), found[2]) if fields else ("", line[found.end() :].strip()))
        elif line.strip() and _indent(line) > indent and not line.lstrip().startswith(">>>"):
            items[-1] = (items[-1][0], f"{items[-1][1]} {line.strip()}".strip())
        elif line.strip() or not _continues(lines, position, indent, marker):
            break
        position += 1
    return Block("definitions" if fields else "list", items=tuple(items)), position


def _continues(lines: list[str], position: int, indent: int, marker: re.Pattern[str]) -> bool:
    """Whether the list goes on after an empty line."""
    following = lines[position + 1] if position + 1 < len(lines) else ""
    return bool(marker.match(following)) and _indent(following) >= indent


def _definitions(lines: list[str], position: int) -> tuple[Block, int]:
    indent = _indent(lines[position])
    items: list[tuple[str, str]] = []
    while position < len(lines):
        line = lines[position]
        if line.strip() and _indent(line) == indent and _TYPED.fullmatch(line.strip()):
            items.append((line.strip(), ""))
        elif line.strip() and _indent(line) > indent:
            items[-1] = (items[-1][0], f"{items[-1][1]} {line.strip()}".strip())
        elif line.strip():
            break
        position += 1
    return Block("definitions", items=tuple(items)), position


def _until(lines: list[str], position: int, stop: Callable[[int], bool]) -> int:
    while position < len(lines) and not stop(position):
        position += 1
    return position


def _indented(lines: list[str], position: int, indent: int) -> int:
    end = position
    for at in range(position, len(lines)):
        if lines[at].strip():
            if _indent(lines[at]) < indent:
                break
            end = at + 1
    return end


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_verbatim(line: str) -> bool:
    """Drawn tables, and productions of a grammar."""
    return line.lstrip().startswith(("|", "+-", "+=")) or _is_table(line) or (line.startswith("  ") and "::=" in line)


def _is_table(line: str) -> bool:
    return re.fullmatch(r"\s*={2,}(?:\s+={2,})+\s*", line) is not None


# Words within a line

_INLINE = re.compile(
    r"``(?P<literal>[^`\n]{1,300})``"
    r"|:[\w:+-]{1,40}:`(?P<role>[^`\n]{1,300})`"
    r"|`(?P<text>[^`<\n]{1,200})\s<(?P<target>[^>\s]{1,500})>`_{1,2}"
    r"|\[!(?P<badge>\[[^\[\]\n]{0,300}\])\([^()\n]{0,800}\)\s*\]\s*\([^()\n]{0,500}\)"
    r"|!?\[(?P<label>[^\[\]\n]{0,300})\]\(\s*(?P<href>[^()\s]{1,500})(?:\s\"[^\"\n]{0,200}\")?\)"
    r"|`(?P<code>[^`\n]{1,300})`_{0,2}"
    r"|\*\*(?P<strong>[^*\n]{1,300})\*\*"
    r"|(?<![\w*])\*(?P<em>[^*\s][^*\n]{0,300})\*(?![\w*])"
)


def to_html(blocks: list[Block]) -> str:
    parts = []
    for block in blocks:
        if block.kind == "code":
            parts.append(f'<pre class="highlight">{escape(block.text, quote=False)}</pre>')
        elif block.kind == "heading":
            parts.append(f"<h3>{_inline_html(block.text)}</h3>")
        elif block.kind == "list":
            parts.append("<ul>\n" + "\n".join(f"<li>{_inline_html(text)}</li>" for _, text in block.items) + "\n</ul>")
        elif block.kind == "definitions":
            rows = (f"<dt>{_inline_html(term)}</dt>\n<dd>{_inline_html(text)}</dd>" for term, text in block.items)
            parts.append("<dl>\n" + "\n".join(rows) + "\n</dl>")
        elif html := _inline_html(block.text):
            parts.append(f"<p>{html}</p>")
    return "\n".join(parts)


def to_text(block: Block) -> str:
    if block.kind == "code":
        return block.text
    if block.kind == "list":
        return "\n".join(f"• {_inline_text(text)}" for _, text in block.items)
    if block.kind == "definitions":
        return "\n".join(f"{_inline_text(term)}\n{_inline_text(text)}" for term, text in block.items)
    return _inline_text(block.text)


def _inline_html(text: str) -> str:
    def replace(found: re.Match[str]) -> str:
        shown, target = _shown(found)
        shown = escape(shown, quote=False)
        if not shown:
            return ""
        if target:
            scheme_is_safe = re.match(r"https?://|[\w./#-]+$", target)
            return f'<a href="{escape(target)}">{shown}</a>' if scheme_is_safe else shown
        if found["strong"]:
            return f"<strong>{shown}</strong>"
        if found["em"]:
            return f"<em>{shown}</em>"
        return f"<code>{shown}</code>"

    return _map(text, replace, lambda plain: escape(plain, quote=False)).strip()


def _inline_text(text: str) -> str:
    return _map(text, lambda found: _shown(found)[0], lambda plain: plain).strip()


def _map(text: str, marked: Callable[[re.Match[str]], str], plain: Callable[[str], str]) -> str:
    parts, end = [], 0
    for found in _INLINE.finditer(text):
        parts += [plain(text[end : found.start()]), marked(found)]
        end = found.end()
    return "".join([*parts, plain(text[end:])])


def _shown(found: re.Match[str]) -> tuple[str, str]:
    """(what a reader sees, where it leads) of a marked piece; pictures and badges show nothing."""
    if found["badge"]:
        return "", ""
    if found["label"] is not None:
        return ("", "") if found[0].startswith("!") else (found["label"], found["href"])
    if found["text"]:
        return found["text"], found["target"]
    if found["role"]:
        name, _, rest = found["role"].partition("<")
        return (
            name.strip() if rest else found["role"].split(".")[-1] if found["role"].startswith("~") else found["role"]
        ), ""
    return next(found[name] for name in ("literal", "code", "strong", "em") if found[name]), ""
