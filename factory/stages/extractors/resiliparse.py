"""Text of a page by resiliparse: main content with its line structure, and what the page says of itself.

Main content is found by rules on the names of tags and classes (arXiv:2406.11794 compares extractors). Two of its losses are
mended: lists with links or near the top of the tree are dropped (`lists` keeps those whose first item is more than a link),
and where next to nothing is left of a page that has more, `fallback` takes all text outside navigation, headers, footers
and side bars. A row without payload keeps its text.
"""

import re
from typing import Any

from factory.core.registry import register
from factory.core.stage import BatchFunction
from factory.stages.extractors.pages import READS, WRITES, Extract, Page, PageConfig, page_function

_MAX_TITLE = 500

# Few characters of main content are doubtful; all text is taken if it is this much more. Both are deterministic.
_DOUBTFUL = 250
_MUCH_MORE = 2
_OUTSIDE = (
    "nav", "header", "footer", "aside", "form", "[role=navigation]", "[role=banner]", "[role=contentinfo]",
    "[role=search]", "[aria-hidden=true]",
)  # fmt: skip

_DEEPER = b"<div>" * 3
_NO_DEEPER = b"</div>" * 3
_INLINE = rb"(?:p|span|div|strong|b|i|em)"
_LIST_OF_LINKS = re.compile(
    rb"<ul\b[^<>]{0,500}>\s{0,200}<li\b[^<>]{0,500}>\s{0,200}(?:<" + _INLINE + rb"\b[^<>]{0,300}>\s{0,50}){0,4}"
    rb"<a\b[^<>]{0,1000}>(?:[^<]|<(?!/?(?:a|li|ul)\b)){0,500}</a\s{0,10}>\s{0,200}"
    rb"(?:</" + _INLINE + rb">\s{0,200}){0,4}</?(?:li|ul)\b",
    re.IGNORECASE,
)


class ResiliparseConfig(PageConfig):
    """`main_content` leaves out navigation, footers and side bars; `links` writes the addresses of links into the text.

    `post_meta` keeps lines like "posted by ... on ..." (what they say is in `meta`); `comments` keeps readers' comments.
    """

    main_content: bool = True
    lists: bool = True
    fallback: bool = True
    links: bool = False
    alt_texts: bool = False
    post_meta: bool = False
    comments: bool = False


@register(
    "resiliparse",
    version=2,
    reads=READS,
    writes=WRITES,
    config=ResiliparseConfig,
    packages=lambda config: ("resiliparse",),
)
def resiliparse(config: ResiliparseConfig) -> BatchFunction:
    from factory.stages.extractors.structure import encode, is_structured

    prepare = keep_lists if config.lists and config.main_content and not config.links else _as_it_is

    def read(page: Page) -> Extract:
        if config.structure and is_structured(page.html):
            encoded = encode(page.html, prepare)
            text, how = _text(encoded.tree, config)
            text, notes = encoded.decode(text)
            return Extract(text, _title(encoded.tree, config), notes | how)
        text, how = _text(page.tree, config)
        return Extract(text, _title(page.tree, config), how)

    return page_function(config, read, prepare)


def _as_it_is(page: bytes, look: Any) -> bytes:
    return page


def _text(tree: Any, config: ResiliparseConfig) -> tuple[str, dict[str, object]]:
    from resiliparse.extract.html2text import extract_plain_text

    settings: dict[str, Any] = {
        "links": config.links,
        "alt_texts": config.alt_texts,
        "comments": config.comments,
        "post_meta": config.post_meta,
    }
    text: str = extract_plain_text(tree, main_content=config.main_content, **settings)
    if not config.fallback or not config.main_content or len(text) >= _DOUBTFUL:
        return text, {}
    everything: str = extract_plain_text(tree, main_content=False, skip_elements=_OUTSIDE, **settings)
    if len(everything) < _MUCH_MORE * len(text) or not everything.strip():
        return text, {}
    return everything, {"extracted_by": "all_text"}


def _title(tree: Any, config: ResiliparseConfig) -> str | None:
    # The metadata hold it already, without the time it takes to find it in the tree.
    return None if config.metadata else " ".join((tree.title or "").split())[:_MAX_TITLE] or None


def keep_lists(page: bytes, look: Any) -> bytes:
    """The page with its lists of prose deeper in the tree and without links, where the rules for main content keep them.

    resiliparse 2.0.1 drops every `ul` less than three blocks below the body, and every `ul` of which links are a third or
    more. A list whose first item is a link and nothing else stays as it is: navigation more often than not.
    """
    pieces = []
    position = 0
    for start, end in look.lists:
        if not _LIST_OF_LINKS.match(page, start):
            prose = page[start:end].replace(b"<a ", b"<span ").replace(b"</a>", b"</span>")
            pieces += [page[position:start], _DEEPER, prose, _NO_DEEPER]
            position = end
    return b"".join([*pieces, page[position:]]) if pieces else page
