"""Wikitext to plain text, in one pass over its tokens and one over its lines: time grows with the length, whatever stands there.

Templates, references, files, categories and links to other languages go; links, bold and italic leave their words; headings,
lists and (where asked) tables become lines; mathematics stays TeX between dollars; what is marked as no wikitext stays as it
is. Sections that only point elsewhere (see also, references, external links) and sections left empty are dropped. What is
opened and never closed is text. Modelled on what the extracted Wikipedias of data sets hold (WikiExtractor).
"""

import html
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_DEPTH = 64  # of templates, links and tables within each other; MediaWiki itself allows 40 templates
_TAG_END = 4_000

_TOKEN = re.compile(
    r"<!--|</?[A-Za-z][A-Za-z0-9]{0,20}|\{\{|\}\}|\[\[|\]\]|\[(?=(?:https?|ftp)://|//|mailto:)|\]|'{2,}|\|\||\|"
    r"|&#?[A-Za-z0-9]{1,31};|__[A-Z]{3,30}__|\n[ :]{0,20}\{\||\n[ ]{0,20}\|\}(?!\})|\n[ ]{0,20}\|[-+]?|\n"
)
_OPENS = {"{{": "template", "[[": "link", "[": "address"}
_CLOSES = {"}}": "template", "]]": "link", "]": "address"}


def _words(text: str, separator: str | None = None) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(separator))


_DROPPED_TAGS = _words(
    "ref gallery timeline imagemap score mapframe maplink templatedata graph hiero inputbox indicator references chart"
)
_LITERAL_TAGS = _words("nowiki pre syntaxhighlight source math chem ce")
_KNOWN_TAGS = _words(
    "abbr b bdi bdo big blockquote br center cite code data dd del dfn div dl dt em font h1 h2 h3 h4 h5 h6 hr i ins kbd li "
    "mark noinclude includeonly onlyinclude ol p poem q rb rp rt rtc ruby s samp section small span strike strong sub sup "
    "table td th time tr tt u ul var wbr caption thead tbody tfoot translate tvar templatestyles"
)
_BREAKS = _words("br p div li tr blockquote hr poem dd dt")

# Templates that only dress their last value, or a number and its unit.
_DRESSED = _words("lang nowrap nobr nowr transliteration transl small big smaller larger nobold em strong sic")
_MEASURED = _words("convert cvt")

_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z]{2,10}){0,2}|simple")
_HEADING = re.compile(r"(={1,6})[ \t]*([^\n]{1,500}?)[ \t]*\1[ \t]*")
_BULLETS = re.compile(r"[*#:;]{1,30}")
_EMPTY_BRACKETS = re.compile(r"[ \t]?[(（][ \t,;:]{0,20}[)）]")
_BROKEN_BRACKET = re.compile(r"([(（])[ \t]{0,5}[;,][ \t]{0,5}")
_SPACES = re.compile(r"[ \t\xa0]{2,}")
_ATTRIBUTES = re.compile(
    # What was taken is not given back: a value may hold what looks like more attributes, in more ways than can be tried.
    r'[ \t]*+(?:[A-Za-z][\w:-]{0,40}+[ \t]*+=[ \t]*+(?:"[^"]{0,500}+"|\'[^\']{0,500}+\'|[^\s"\'|]{1,200}+)[ \t]*+){1,20}+'
)
_LITERAL = re.compile("\0(\\d{1,9})\0")

# Titles of sections that point elsewhere, in the larger Wikipedias, as MediaWiki pages title them.
TAILS = _words(
    "see also|references|external links|further reading|notes|footnotes|bibliography|sources|citations|works cited|"
    "notes and references|references and notes|"
    "siehe auch|weblinks|einzelnachweise|literatur|quellen|anmerkungen|belege|"
    "voir aussi|notes et références|références|liens externes|bibliographie|annexes|articles connexes|notes|"
    "véase también|referencias|enlaces externos|bibliografía|notas|"
    "voci correlate|altri progetti|collegamenti esterni|bibliografia|note|"
    "ver também|referências|ligações externas|bibliografia|"
    "zie ook|externe links|externe link|bronnen|referenties|voetnoten|literatuur|"
    "zobacz też|przypisy|linki zewnętrzne|uwagi|"
    "см. также|примечания|ссылки|литература|источники|"
    "див. також|примітки|посилання|джерела|література|"
    "関連項目|脚注|外部リンク|参考文献|注釈|出典|"
    "参见|参考文献|外部链接|参考资料|外部連結|參考資料|參見|注释|註釋|"
    "같이 보기|각주|외부 링크|참고 문헌|"
    "انظر أيضًا|مراجع|وصلات خارجية|المراجع|"
    "se även|referenser|externa länkar|källor|noter|kaynakça|ayrıca bakınız|dış bağlantılar|"
    "viz též|reference|externí odkazy|literatura|xem thêm|tham khảo|liên kết ngoài|lihat pula|referensi|pranala luar",
    "|",
)


class Names(NamedTuple):
    """What namespaces are called on a wiki, in small letters: those of files, and those of categories."""

    files: frozenset[str] = frozenset({"file", "image", "media"})
    categories: frozenset[str] = frozenset({"category"})


class _Frame:
    """Something opened: its kind, how it was written, and its values so far, each as pieces."""

    __slots__ = ("kind", "mark", "values")

    def __init__(self, kind: str, mark: str) -> None:
        self.kind = kind
        self.mark = mark
        self.values: list[list[str]] = [[]]

    def texts(self) -> list[str]:
        return ["".join(value) for value in self.values]


def wikitext_to_text(source: str, names: Names = Names(), *, tables: bool = True) -> str:  # noqa: B008 (frozen)
    """The plain text of an article."""
    literals: list[str] = []
    inline = _Inline(source.replace("\0", ""), names, literals, tables=tables).text()
    text = "\n".join(_sections(_lines(inline.split("\n"))))
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    return _LITERAL.sub(lambda match: literals[int(match[1])], text).strip("\n")


class _Inline:
    """What stands within lines, and tables: a stack of what is open, at most 64 deep."""

    def __init__(self, source: str, names: Names, literals: list[str], *, tables: bool) -> None:
        self.source = source
        self.names = names
        self.literals = literals
        self.tables = tables
        self.stack = [_Frame("text", "")]
        self.out = self.stack[0].values[-1]
        self.unclosed: set[str] = set()

    def text(self) -> str:
        # A newline in front lets a table begin in the first line.
        source = self.source = f"\n{self.source}"
        position = 0
        while match := _TOKEN.search(source, position):
            if match.start() > position:
                self.out.append(source[position : match.start()])
            position = self._take(match[0], match.end())
        self.out.append(source[position:])
        return "".join(_as_written(self.stack))

    def _take(self, token: str, after: int) -> int:
        """Do what a token asks for; where to go on."""
        first = token[0]
        if first == "<":
            return self._tag(token, after)
        if token in _OPENS:
            self._open(_OPENS[token], token)
        elif token in _CLOSES:
            self._close(_CLOSES[token], token)
        elif first == "'":
            self.out.append({4: "'"}.get(len(token), "'" * (len(token) - 5)))
        elif first == "&":
            plain = html.unescape(token)
            self.out.append("" if plain == "\0" else plain)
        elif first == "|":
            self._value(token)
        elif first == "_":
            pass
        elif token == "\n":
            self.out.append(token)
        else:
            self._table_line(token)
        return after

    # --- opened and closed

    def _open(self, kind: str, mark: str) -> None:
        if len(self.stack) > _DEPTH:
            self.out.append(mark)
            return
        self.stack.append(_Frame(kind, mark))
        self.out = self.stack[-1].values[-1]

    def _close(self, kind: str, mark: str) -> None:
        level = next((n for n in range(len(self.stack) - 1, 0, -1) if self.stack[n].kind == kind), 0)
        if level == 0 or (kind == "address" and level != len(self.stack) - 1):
            self.out.append(mark)
            return
        if level < len(self.stack) - 1:
            rest = self.stack[level + 1 :]
            del self.stack[level + 1 :]
            self.stack[level].values[-1].extend(_as_written(rest))
        frame = self.stack.pop()
        self.out = self.stack[-1].values[-1]
        text = _MADE[kind](self, frame)
        if text:
            self.out.append(text)

    def _value(self, mark: str) -> None:
        top = self.stack[-1]
        if top.kind == "template" or top.kind == "link":
            top.values += [[] for _ in mark]
            self.out = top.values[-1]
        else:
            self.out.append(mark)

    def _table_line(self, token: str) -> None:
        bare = token.lstrip("\n :")
        top = self.stack[-1].kind
        if bare == "{|":
            self.out.append("\n")
            self._open("table", "{|")
        elif bare == "|}" and any(frame.kind == "table" for frame in self.stack):
            self._close("table", token)
        elif top == "template" or top == "link":
            self.out.append("\n")
            self._value("|")
            self.out.append(bare[1:])
        else:
            self.out.append(token)

    # --- tags

    def _tag(self, token: str, after: int) -> int:
        source = self.source
        if token == "<!--":
            end = self._find("-->", after)
            return len(source) if end < 0 else end + 3
        name = token.lstrip("</").lower()
        end = source.find(">", after, after + _TAG_END)
        known = name in _DROPPED_TAGS or name in _LITERAL_TAGS or name in _KNOWN_TAGS
        if end < 0 or not known:
            self.out.append(token)
            return after
        closes, alone = token[1] == "/", source[end - 1] == "/"
        if not closes and not alone and (name in _DROPPED_TAGS or name in _LITERAL_TAGS):
            stop = self._find(f"</{name}", end + 1)
            if stop >= 0:
                if name in _LITERAL_TAGS:
                    self._literal(name, source[end + 1 : stop], source[after:end])
                stop_end = source.find(">", stop, stop + _TAG_END)
                return stop_end + 1 if stop_end >= 0 else stop + len(name) + 2
        if name in _BREAKS and (not self.out or not self.out[-1].endswith("\n")):
            self.out.append("\n")
        return end + 1

    def _find(self, what: str, start: int) -> int:
        """Where this stands next. What was not found once is nowhere later: it is not looked for again."""
        if what in self.unclosed:
            return -1
        found = self.source.find(what, start)
        if found < 0:
            self.unclosed.add(what)
        return found

    def _literal(self, name: str, content: str, attributes: str) -> None:
        if name in ("math", "chem", "ce"):
            mark = "$$" if "block" in attributes else "$"
            content = f"{mark}{content.strip()}{mark}"
        elif name == "nowiki":
            content = html.unescape(content).replace("\0", "")
        else:
            content = f"\n{html.unescape(content).strip(chr(10))}\n".replace("\0", "")
        self.out.append(f"\0{len(self.literals)}\0")
        self.literals.append(content)

    # --- what becomes of them

    def template(self, frame: _Frame) -> str:
        values = frame.texts()
        name = values[0].strip().lower().replace("_", " ")
        plain = [value.strip() for value in values[1:] if "=" not in value]
        if name == "!":
            return "|"
        if name in _DRESSED and plain:
            return plain[-1]
        if name in _MEASURED and len(plain) > 1:
            return f"{plain[0]} {plain[1]}"
        return ""

    def link(self, frame: _Frame) -> str:
        values = frame.texts()
        target = values[0].strip()
        prefix, colon, rest = target.partition(":")
        prefix = prefix.strip().lower().replace("_", " ")
        if colon and prefix in self.names.files | self.names.categories:
            return ""
        if colon and len(values) == 1 and _LANGUAGE.fullmatch(prefix) and rest:
            return ""
        if len(values) > 1:
            return values[-1].strip() or target.lstrip(":").partition("#")[0]
        return target.lstrip(":")

    def address(self, frame: _Frame) -> str:
        _, _, words = "".join(frame.values[0]).partition(" ")
        return words.strip()

    def table(self, frame: _Frame) -> str:
        if not self.tables:
            return "\n"
        return "\n" + "".join(f"{line}\n" for line in _table_rows("".join(frame.values[0])))


_MADE = {"template": _Inline.template, "link": _Inline.link, "address": _Inline.address, "table": _Inline.table}


def _as_written(frames: Iterable[_Frame]) -> Iterator[str]:
    """What was opened and never closed, as text."""
    for frame in frames:
        yield frame.mark
        for number, value in enumerate(frame.values):
            if number:
                yield "|"
            yield from value


def _table_rows(content: str) -> Iterator[str]:
    """A line for each row, its cells between bars; captions and rows without words are lines of their own or none."""
    row: list[str] = []
    lines = content.split("\n")
    for line in lines[1:]:
        bare = line.strip()
        if bare.startswith(("|-", "|+")):
            yield from _row(row)
            row = []
            if bare.startswith("|+"):
                yield from _row([_cell(bare[2:])])
        elif bare[:1] in ("|", "!"):
            mark = "!!" if bare[0] == "!" else "||"
            row += [_cell(cell) for cell in bare[1:].replace("!!", mark).split(mark)]
        elif row and bare:
            row[-1] = f"{row[-1]} {bare}".strip()
        elif bare:
            row.append(bare)
    yield from _row(row)


def _row(cells: list[str]) -> Iterator[str]:
    if any(cells):
        yield " | ".join(cells)


def _cell(text: str) -> str:
    before, bar, after = text.partition("|")
    return (after if bar and _ATTRIBUTES.fullmatch(before) else text).strip()


# Lines


class _Line(NamedTuple):
    """A line of text; `level` is that of a heading, 0 of any other."""

    text: str
    level: int


def _lines(lines: Iterable[str]) -> Iterator[_Line]:
    counts: dict[str, int] = {}
    for line in lines:
        line = _BROKEN_BRACKET.sub(r"\1", _EMPTY_BRACKETS.sub("", line))  # what templates leave that are gone
        line = _SPACES.sub(" ", line).strip(" \t\xa0")
        heading = _HEADING.fullmatch(line) if line.startswith("=") else None
        bullets = _BULLETS.match(line)
        if heading:
            yield _Line(heading[2].strip(), len(heading[1]))
        elif bullets:
            item = line[bullets.end() :].strip()
            counts = {mark: count for mark, count in counts.items() if bullets[0].startswith(mark)}
            if item:
                yield _Line(_item(bullets[0], item, counts), 0)
            continue
        elif not line.startswith("----"):
            yield _Line(line, 0)
        counts = {}


def _item(marks: str, item: str, counts: dict[str, int]) -> str:
    indent = "  " * (len(marks) - 1)
    if marks[-1] == "#":
        counts[marks] = counts.get(marks, 0) + 1
        return f"{indent}{counts[marks]}. {item}"
    return f"{indent}- {item}" if marks[-1] == "*" else item


def _sections(lines: Iterable[_Line]) -> Iterator[str]:
    """The lines without sections that point elsewhere and without headings that nothing stands under."""
    dropped = 0  # the level of the section that is left out
    waiting: list[_Line] = []  # headings whose sections have no text yet
    for line in lines:
        if line.level:
            if dropped and line.level > dropped:
                continue
            dropped = line.level if line.text.strip(" :").lower() in TAILS else 0
            waiting = [heading for heading in waiting if heading.level < line.level]
            if not dropped:
                waiting.append(line)
        elif not dropped:
            if line.text:
                yield from (piece for heading in waiting for piece in ("", heading.text, ""))
                waiting = []
            yield line.text
