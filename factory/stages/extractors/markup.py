"""What a page says of itself: title, author, date of publication, address, language, robots, licences.

In: the bytes of a page in UTF-8, where searching is fastest. Out: a title, the licence and the keys of `meta`. Only the head
is searched, with one expression over its tags; the body is looked at only where a first look shows that there is something
to find, so that most pages cost a few microseconds. Nothing is guessed: a date that is no ISO date, or a language that is no
tag of BCP 47, is left out.

Licences are taken in this order of trust: `rel=license`, JSON-LD `license` of the page (not of a picture), a `meta` tag, any
anchor to a Creative Commons licence. Each distinct one is listed with how it was found and a confidence of
0.5 + 0.5 / (k + 1) for the k-th (Dolma, arXiv:2402.00159): several licences mean a page that speaks about others' works.
"""

import html as entities
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from factory.stages.licences import parse_licence

_HEAD_BYTES = 200_000
_VALUE = r"(?:\"[^\"]{0,5000}+\"|'[^']{0,5000}+')"
_TAG = re.compile(rf"<(html|meta|link)\b((?:[^<>\"']++|{_VALUE})*+)/?>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"([a-zA-Z][a-zA-Z0-9:_.\-]{0,60})\s{0,20}=\s{0,20}(\"[^\"]*\"|'[^']*'|[^\s\"'>]+)")
_TITLE_TAG = re.compile(r"<title\b[^<>]{0,200}>([^<]{0,2000})", re.IGNORECASE)
_NAME = re.compile(
    r"\b(?:name|property|itemprop|http-equiv)\s{0,20}=\s{0,20}[\"']?\s{0,20}([a-zA-Z:._\-]{1,60})", re.IGNORECASE
)
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,5}")
_ISO_DATE = re.compile(r"\s{0,20}(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)")
_LD_JSON = re.compile(rb"<script\b[^<>]{0,500}ld\+json[^<>]{0,200}>", re.IGNORECASE)
# Of any tag: what prepares a page for an extractor may have renamed links.
_MAY_STATE = "[rel~=license][href], [href*='creativecommons.org/']"
_MAX_FIELD = 500
_MAX_LD_JSON = 200_000
_MAX_LICENCES = 5
_MAX_LINKS = 50

# First come, first served within a list; the lists are those of Open Graph, Dublin Core, Highwire Press and Parse.ly.
_AUTHOR = (
    "author",
    "article:author",
    "dcterms.creator",
    "dc.creator",
    "citation_author",
    "parsely-author",
    "sailthru.author",
)
_PUBLISHED = (
    "article:published_time", "og:article:published_time", "datepublished", "citation_publication_date", "dcterms.issued",
    "dc.date.issued", "dcterms.date", "dcterms.created", "dc.date", "dc.date.created", "parsely-pub-date", "sailthru.date",
    "pubdate", "publish-date", "publish_date", "publication_date", "date",
)  # fmt: skip
_LICENSE = ("license", "dcterms.license", "dc.rights.license", "dcterms.rights", "dc.rights", "copyright-license")
_TITLE = ("og:title", "citation_title", "dcterms.title", "dc.title", "twitter:title")
_WANTED = frozenset(
    (*_AUTHOR, *_PUBLISHED, *_LICENSE, *_TITLE, "robots", "tdm-reservation", "tdm-policy", "og:url", "content-language")
)
_MEDIA = ("ImageObject", "VideoObject", "AudioObject", "MediaObject", "Photograph", "Dataset")


class AboutPage(NamedTuple):
    """A title, keys of `meta`, and what the search for licences goes on from."""

    title: str | None
    meta: dict[str, Any]
    named: Mapping[str, str]
    stated: list[Mapping[str, Any]]


def page_metadata(page: bytes, look: Any, url: str | None) -> AboutPage:
    """What the page says of itself; `url` makes relative addresses absolute."""
    title, language, named, links = _head(page)
    meta: dict[str, Any] = {}
    if language:
        meta["html_lang"] = language
    stated = _json_ld(page) if look.has_json_ld else []
    author = next((value for key in _AUTHOR if (value := named.get(key)) and "://" not in value), None)
    author = author or _first(stated, _author_of)
    if author:
        meta["author"] = author[:_MAX_FIELD]
    published = next((day for key in _PUBLISHED if (day := _day(named.get(key)))), None)
    published = published or _first(stated, lambda node: _day(node.get("datePublished")))
    if published:
        meta["published"] = published
    canonical = _address(links.get("canonical") or named.get("og:url"), url)
    if canonical:
        meta["canonical_url"] = canonical
    robots = robots_tokens(named.get("robots", ""))
    if robots:
        meta["robots"] = ", ".join(robots)
    for name in ("tdm-reservation", "tdm-policy"):
        if value := named.get(name):
            meta[name.replace("-", "_")] = value[:_MAX_FIELD]
    title = title or next((value for key in _TITLE if (value := named.get(key))), None)
    return AboutPage(" ".join(title.split())[:_MAX_FIELD] if title else None, meta, named, stated)


def page_licences(look: Any, about: AboutPage, parse: Callable[[], Any]) -> tuple[str | None, dict[str, Any]]:
    """The page's licence as the page writes it, and keys of `meta`; `parse` gives the tree if it is needed."""
    found = list(_evidence(look, about.named, about.stated, parse))
    if not found:
        return None, {}
    # Links in several languages, or with and without a slash, are one licence.
    distinct: dict[str, tuple[str, str]] = {}
    for how, value in found:
        distinct.setdefault(parse_licence(value).name or value.lower(), (how, value))
    listed = [
        {"license": name[:100], "how": how, "confidence": round(0.5 + 0.5 / (k + 1), 3)}
        for k, (name, (how, _)) in enumerate(list(distinct.items())[:_MAX_LICENCES])
    ]
    how, value = found[0]
    evidence: dict[str, Any] = {"license_how": how, "licenses": json.dumps(listed, ensure_ascii=False)}
    if len(distinct) > _MAX_LICENCES:
        evidence["n_licenses"] = len(distinct)
    return value[:_MAX_FIELD], evidence


def robots_tokens(value: str) -> list[str]:
    """The directives of a robots `meta` tag or header, in lower case, each once, in their order."""
    tokens = (token.strip().lower() for token in value[:2000].split(","))
    return list(dict.fromkeys(token for token in tokens if token and len(token) <= 60))[:20]


def _head(page: bytes) -> tuple[str | None, str | None, dict[str, str], dict[str, str]]:
    """Title, language, `meta` values by lower-case name and `link` addresses by relation; the first of each name holds."""
    end = page.find(b"</head", 0, _HEAD_BYTES)
    if end < 0:
        end = page.find(b"<body", 0, _HEAD_BYTES)
    head = page[: end if end >= 0 else _HEAD_BYTES // 10].decode("utf-8", "replace")
    if "<!--" in head:
        head = _without_comments(head)
    language = None
    named: dict[str, str] = {}
    links: dict[str, str] = {}
    for match in _TAG.finditer(head):
        tag = match[1].lower()
        if tag == "meta":
            name = _NAME.search(match[2])
            # Most tags are of no interest, and taking a tag apart costs more than all else.
            key = name[1].lower() if name else ""
            if key in _WANTED and (value := _attributes(match[2]).get("content", "").strip()):
                named.setdefault(key, value)
            continue
        if tag == "link" and "canonical" not in match[2].lower():
            continue
        attributes = _attributes(match[2])
        if tag == "link":
            if "canonical" in attributes.get("rel", "").lower().split():
                links.setdefault("canonical", attributes.get("href", ""))
        elif language is None:
            language = _language(attributes.get("lang") or attributes.get("xml:lang"))
    stated = _TITLE_TAG.search(head)
    title = entities.unescape(stated[1]).strip() or None if stated else None
    return title, language or _language(named.get("content-language")), named, links


def _without_comments(head: str) -> str:
    pieces = []
    position = 0
    while (start := head.find("<!--", position)) >= 0:
        pieces.append(head[position:start])
        end = head.find("-->", start + 2)
        if end < 0:
            return "".join(pieces)
        position = end + 3
    return "".join([*pieces, head[position:]])


def _attributes(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(text):
        value = match[2]
        if value[0] in "\"'":
            value = value[1:-1]
        found.setdefault(match[1].lower(), entities.unescape(value) if "&" in value else value)
    return found


def _language(value: str | None) -> str | None:
    match = _LANGUAGE.fullmatch(value.strip().replace("_", "-")) if value else None
    return match[0] if match else None


def _day(value: Any) -> str | None:
    """The ISO date at the front of a value, if it is a day that was or could be on the web."""
    match = _ISO_DATE.match(value) if isinstance(value, str) else None
    if match is None:
        return None
    try:
        day = date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return None
    return day.isoformat() if 1000 <= day.year <= 2100 else None


def _address(value: str | None, base: str | None) -> str | None:
    if not value:
        return None
    try:
        whole = urljoin(base or "", value.strip())
        parts = urlsplit(whole)
    except ValueError:
        return None
    return whole if parts.scheme in ("http", "https") and parts.netloc and len(whole) <= 1_000 else None


def _json_ld(page: bytes) -> list[Mapping[str, Any]]:
    """The nodes a page's JSON-LD states at its top, or in its graph, that are about the page and not about a picture."""
    nodes: list[Mapping[str, Any]] = []
    for number, match in enumerate(_LD_JSON.finditer(page)):
        end = page.find(b"</script", match.end(), match.end() + _MAX_LD_JSON)
        if end < 0 or number >= 20:
            break
        try:
            made = json.loads(page[match.end() : end].decode("utf-8", "replace"), strict=False)
        except (ValueError, RecursionError):
            continue
        nodes += _nodes(made)
    return nodes


def _nodes(made: Any) -> Iterator[Mapping[str, Any]]:
    for node in made if isinstance(made, list) else [made]:
        graph = node.get("@graph") if isinstance(node, dict) else None
        for item in graph if isinstance(graph, list) else [node]:
            kind = item.get("@type") if isinstance(item, dict) else None
            kinds = kind if isinstance(kind, list) else [kind]
            if isinstance(item, dict) and not any(name in _MEDIA for name in kinds if isinstance(name, str)):
                yield item


def _first(nodes: list[Mapping[str, Any]], read: Any) -> str | None:
    return next((value for node in nodes if (value := read(node))), None)


def _author_of(node: Mapping[str, Any]) -> str | None:
    author = node.get("author")
    author = author[0] if isinstance(author, list) and author else author
    name = author.get("name") if isinstance(author, dict) else author
    return name.strip() or None if isinstance(name, str) and "://" not in name else None


def _licence_of(node: Mapping[str, Any]) -> str | None:
    stated = node.get("license")
    stated = stated[0] if isinstance(stated, list) and stated else stated
    value = (stated.get("@id") or stated.get("url")) if isinstance(stated, dict) else stated
    return value.strip() or None if isinstance(value, str) else None


def _evidence(
    look: Any, named: Mapping[str, str], stated: list[Mapping[str, Any]], parse: Callable[[], Any]
) -> Iterator[tuple[str, str]]:
    anchors: list[str] = []
    if look.has_rel_license or look.links_creative_commons:
        links = _links(parse().document)
        yield from (("rel", href) for relations, href in links if "license" in relations.lower().split())
        anchors = [href for _, href in links if parse_licence(href).kind]
    yield from (("jsonld", value) for node in stated if (value := _licence_of(node)))
    yield from (("meta", value) for key in _LICENSE if (value := named.get(key)))
    yield from (("anchor", href) for href in anchors)


def _links(document: Any) -> list[tuple[str, str]]:
    """Relations and addresses of what may state a licence."""
    nodes = document.query_selector_all(_MAY_STATE).values() if document is not None else []
    stated = ((node.getattr("rel") or "", (node.getattr("href") or "").strip()) for node in nodes[:_MAX_LINKS])
    return [(relations, address) for relations, address in stated if address]
