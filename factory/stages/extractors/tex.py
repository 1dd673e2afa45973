r"""Formulas on web pages as TeX: delimiters in the text, MathJax, KaTeX, MathML, pictures.

In: a page's characters (`replace_delimited`) or its tree (`replace_elements`). Out: the page with every formula exchanged for
what `put(tex, display)` returns. What renderers leave beside the source (aria-hidden copies, previews, fall-back pictures)
goes, so that no formula is there twice. `\(..\)` is inline and `\[..\]` display (OpenWebMath, arXiv:2310.06786, names the
forms; its code swaps the two). A dollar sign counts only where the page configures it.
"""

import html as entities
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote, unquote_plus, urlsplit

from factory.stages.extractors.mathml import mathml_to_tex

Put = Callable[[str, bool], str]

_RENDERERS = (
    "athjax",
    "athJax",
    "ATHJAX",
    "katex",
    "KaTeX",
    "tex2jax",
    "math inline",
    "math display",
    "math-container",
)
_SOURCES = (
    *_RENDERERS, "<math", "math/tex", "codecogs", "latex.php", "tex.cgi", "mwe-math", "mimetex", "mathtex", 'class="tex',
    "class='tex", "class=tex", 'class="latex', "class='latex", "class=latex",
)  # fmt: skip

_LONGEST = 10_000
_MOST = 20_000
_SKIPPED = r"script|style|pre|code|textarea|noscript|template|title"
_DOLLAR = re.compile(
    r"inlineMath\s{0,10}['\"]?\s{0,10}:\s{0,10}\[.{0,200}?\[\s{0,10}['\"]\$['\"]"
    r"|left\s{0,5}['\"]?\s{0,5}:\s{0,5}['\"]\$['\"]",
    re.DOTALL,
)
_OPENINGS = rf"(?i:<(?P<tag>{_SKIPPED})\b)|<!--|\\\(|\\\[|\$\$|\\begin\{{(?P<environment>[a-zA-Z]{{3,20}}\*?)\}}"
_OPENING = re.compile(_OPENINGS)
_OPENING_DOLLAR = re.compile(_OPENINGS + r"|(?<!\\)\$(?!\s)")
_ENVIRONMENTS = ("equation", "align", "gather", "multline", "eqnarray", "alignat", "flalign", "displaymath", "math")
_IN_FORMULA = re.compile(r"</?(?:br|wbr|em|strong|i|b|span)\b[^<>]{0,200}>", re.IGNORECASE)
_MARKUP = re.compile(r"<[a-zA-Z/!]")
_LOOKS_LIKE_TEX = re.compile(r"\\[a-zA-Z]{2,}|[_^]\{|\\[{}|,;]")
_DOLLAR_MATH = re.compile(r"[\\^_=+<>{}/|]|^[a-zA-Z](?:\([a-zA-Z, ]{1,20}\))?$|^\d*[a-zA-Z]$")
_PICTURE_ADDRESS = re.compile(r"codecogs\.com|latex\.php|tex\.cgi|mimetex|mathtex|/cgi-bin/.{0,20}tex", re.IGNORECASE)
_PICTURE_CLASS = re.compile(r"(?:^|[\s_-])(?:tex|latex|math)(?:$|[\s_-])", re.IGNORECASE)
_SIZES = re.compile(
    r"(?:\\(?:dpi\{\d{1,4}\}|(?:bg|fg|fn)_\w{1,20}|(?:tiny|small|large|LARGE|huge|inline)\b)\s{0,5}){1,6}"
)
_DISPLAY_STYLE = re.compile(r"\{\s{0,5}\\(?:display|text)style\b(.{1,10000})\}", re.DOTALL)
_LEFT_BY_MATHJAX2 = (
    ".MathJax_Preview, .MathJax, .MathJax_Display, .MathJax_SVG, .MathJax_SVG_Display, .MathJax_CHTML, .MathJax_MathML, "
    ".mjx-chtml, .MJXc-display, .MathJax_Error"
)


def has_formulas(html: str) -> bool:
    """Whether a page may hold formulas: one of a few words that all renderers leave."""
    return any(word in html for word in _SOURCES)


def replace_delimited(html: str, put: Put) -> str:
    """The page with formulas between delimiters exchanged, where a renderer is at work; code and scripts stay."""
    if not any(word in html for word in _RENDERERS):
        return html
    opening = _OPENING_DOLLAR if _DOLLAR.search(html) else _OPENING
    pieces: list[str] = []
    position = done = count = 0
    nearest: dict[str, int] = {}
    while count < _MOST and (match := opening.search(html, position)):
        start, mark = match.span()[0], match[0]
        position = match.end()
        if mark == "<!--" or match["tag"]:
            position = _end_of(html, match["tag"], position)
            if position < 0:
                break
            continue
        closer = _closer(mark, match["environment"])
        if closer is None or _in_tag(html, start):
            continue
        end = nearest.get(closer, -1)
        if end != _NOWHERE and end < position:
            end = html.find(closer, position)
            nearest[closer] = end = end if end >= 0 else _NOWHERE
        if end == _NOWHERE or end - position > _LONGEST:
            continue
        inner = html[position:end]
        if "<" in inner or "&" in inner:
            inner = _IN_FORMULA.sub(" ", inner)
            if _MARKUP.search(inner):
                continue
            inner = entities.unescape(inner)
        if mark == "$" and ("\n\n" in inner or inner != inner.rstrip() or not _DOLLAR_MATH.search(inner)):
            continue
        if match["environment"]:
            inner = f"{mark}{inner}{closer}"
        if inner.strip():
            pieces += [html[done:start], put(inner, mark not in (r"\(", "$"))]
            done = position = end + len(closer)
            count += 1
    return "".join([*pieces, html[done:]])


_NOWHERE = 1 << 62


def _closer(mark: str, environment: str | None) -> str | None:
    if environment:
        return rf"\end{{{environment}}}" if environment.rstrip("*") in _ENVIRONMENTS else None
    return {r"\(": r"\)", r"\[": r"\]"}.get(mark, mark)


def _end_of(html: str, tag: str | None, position: int) -> int:
    if tag is None:
        return html.find("-->", position)
    match = re.compile(rf"</{tag}\b", re.IGNORECASE).search(html, position)
    return match.end() if match else -1


def _in_tag(html: str, position: int) -> bool:
    """Whether a position is between the brackets of a tag, in an attribute."""
    left = html.rfind("<", max(0, position - 2_000), position)
    return left >= 0 and html.find(">", left, position) < 0 and (html[left + 1].isalpha() or html[left + 1] == "/")


def replace_elements(document: Any, put: Put, text_node: Callable[[str], Any]) -> None:
    """The tree with elements that hold formulas exchanged for text."""

    def exchange(node: Any, tex: str | None, display: bool) -> None:
        tex = clean_tex(tex or "")
        if tex:
            node.replace_with(text_node(put(tex, display)))

    _replace_mathjax2(document, exchange)
    for node in outermost(document, "mjx-container, .katex-display, .katex, .katex-mathml, .mwe-math-element, math"):
        display = _is_display(node)
        exchange(node, _tex_in(node), display)
    for node in outermost(document, "mjx-container, .katex-html[aria-hidden]"):
        node.remove()  # a formula whose source is nowhere on the page: its glyphs are not text either
    for image in outermost(document, "img"):
        exchange(image, _tex_of_picture(image), _is_display(image))


def clean_tex(tex: str) -> str:
    """TeX without the delimiters and wrappers that pages put around it."""
    tex = tex.strip()
    if "<![CDATA[" in tex:
        tex = re.sub(r"%?\s{0,5}<!\[CDATA\[|%?\s{0,5}\]\]>", "", tex).strip()
    for left, right in (("$$", "$$"), (r"\(", r"\)"), (r"\[", r"\]"), ("$", "$")):
        if tex.startswith(left) and tex.endswith(right) and len(tex) > len(left) + len(right):
            tex = tex[len(left) : -len(right)].strip()
            break
    return tex


def outermost(document: Any, selector: str) -> Iterator[Any]:
    """The nodes a selector finds that are in no other it finds; each may be taken out of the tree while it is looked at.

    What a node holds is counted and skipped: asking every node whether it is still in the tree takes time in proportion to
    the square of the depth.
    """
    nodes = document.query_selector_all(selector).values()  # walking the list itself is quadratic in resiliparse 2.0.1
    place = 0
    while place < len(nodes):
        inner = len(nodes[place].query_selector_all(selector).values())
        yield nodes[place]
        place += 1 + inner


def _replace_mathjax2(document: Any, exchange: Callable[[Any, str | None, bool], None]) -> None:
    scripts = list(outermost(document, "script[type^='math/tex'], script[type^='math/mml']"))
    if not scripts:
        return
    for left in outermost(document, _LEFT_BY_MATHJAX2):
        left.remove()
    for script in scripts:
        kind = (script.getattr("type") or "").lower()
        source = script.text_content or ""
        if kind.startswith("math/mml"):
            from resiliparse.parse.html import HTMLTree

            parsed = HTMLTree.parse(source).document
            math = parsed.query_selector("math") if parsed is not None else None
            exchange(script, _tex_in(math) if math is not None else None, 'display="block"' in source)
        else:
            exchange(script, source, "mode=display" in kind.replace(" ", ""))


def _is_display(node: Any) -> bool:
    inner = node if node.tag == "math" else node.query_selector("math")
    if inner is not None and "block" in (
        (inner.getattr("display") or "").lower(),
        (inner.getattr("mode") or "").lower(),
    ):
        return True
    if inner is not None and (inner.getattr("mode") or "").lower() == "display":
        return True
    classes = node.getattr("class") or ""
    return (
        (node.getattr("display") or "") == "true"
        or "katex-display" in classes
        or "mwe-math-fallback-image-display" in classes
        or "mwe-math-element-block" in classes
        or node.query_selector(".katex-display") is not None
    )


def _tex_in(node: Any) -> str | None:
    """The TeX source a rendered formula carries, else its MathML read as TeX."""
    for annotation in node.query_selector_all("annotation").values():
        encoding = (annotation.getattr("encoding") or "").lower()
        if "tex" in encoding and (tex := annotation.text_content):
            return _undressed(tex)
    math = node if node.tag == "math" else node.query_selector("math")
    if math is None:
        return None
    for name in ("data-latex", "alttext", "data-tex"):
        tex = math.getattr(name) or node.getattr(name)
        if tex:
            return _undressed(str(tex))
    return mathml_to_tex(math)


def _undressed(tex: str) -> str:
    """Without the {\\displaystyle ...} that MediaWiki puts around what its authors wrote."""
    match = _DISPLAY_STYLE.fullmatch(tex.strip())
    return match[1].strip() if match else tex


def _tex_of_picture(image: Any) -> str | None:
    alt = (image.getattr("alt") or "").strip()
    source = image.getattr("src") or image.getattr("data-src") or ""
    if _PICTURE_ADDRESS.search(source[:500]):
        return _tex_in_address(source) or alt
    if not alt or len(alt) > _LONGEST:
        return None
    classes = image.getattr("class") or ""
    if "mwe-math" in classes or (_PICTURE_CLASS.search(classes) and not alt.lower().startswith(("image", "picture"))):
        return _undressed(alt)
    delimited = any(alt.startswith(mark) for mark in ("$", r"\(", r"\["))
    return (
        _undressed(alt)
        if (delimited or alt.startswith((r"{\displaystyle", "\\"))) and _LOOKS_LIKE_TEX.search(alt)
        else None
    )


def _tex_in_address(source: str) -> str | None:
    """The formula in the address of a service that draws it: `?\\frac{1}{2}` or `latex=...` among other parameters."""
    try:
        query = urlsplit(entities.unescape(source)).query[:_LONGEST]
    except ValueError:
        return None
    if not query:
        return None
    for part in query.split("&"):
        name, separator, value = part.partition("=")
        if separator and name in ("latex", "tex", "formula", "eq", "chl", "math"):
            return unquote_plus(value)
    # latex.codecogs.com takes the whole query for TeX, with \dpi, \bg and the like in front of it.
    drawn = unquote(query.replace("+", "%2B"))
    sizes = _SIZES.match(drawn)
    return drawn[sizes.end() :].strip() if sizes else drawn.strip()
