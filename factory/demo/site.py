"""The demo's documentation sites: what was harvested, as pages with the menus, indexes and duplicates such sites have.

Every package has its own host below `docs.test` and `www.docs.test` links to all of them. The first snapshot shows the same
sites a month before the second: some pages are not there yet, some are about to go, some are shorter. Which ones is decided
by the hash of a page's name, so the sites are the same wherever the same packages are installed.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from html import escape
from urllib.parse import quote

from factory.demo import markup
from factory.demo.harvest import REFERENCE, Package, Page, share
from factory.demo.server import Answer

DOMAIN = "docs.test"  # RFC 6761: `.test` belongs to nobody
SEED = f"http://www.{DOMAIN}/"
SNAPSHOTS = ("2026-10", "2026-11")

ROBOTS = "User-agent: *\nDisallow: /_sources/\nDisallow: /search\nCrawl-delay: 0\n"

# Shares of pages, by hash of their names: only in the first snapshot, only in the second, edited in between.
REMOVED, ADDED, CHANGED = 0.03, 0.13, 0.10
ALIASES, PRINTED = 0.05, 0.05

_SIMPLE_LICENSE = re.compile(r"[A-Za-z0-9.+-]+")


def crawl_date(snapshot: str) -> datetime:
    return datetime.strptime(f"{snapshot}-15 12:00 +0000", "%Y-%m-%d %H:%M %z")


def fate(package: Package, page: Page) -> str:
    """What happens to a page between the snapshots: removed, added, changed or same."""
    if page.kind == "license":
        return "same"
    chance = share(f"fate {package.name} {page.kind} {page.name}")
    for name, part in (("removed", REMOVED), ("added", ADDED), ("changed", CHANGED)):
        if chance < part:
            return name
        chance -= part
    return "same"


class Site:
    """All hosts in one snapshot. `answer` is a pure function of host and path."""

    def __init__(self, packages: Iterable[Package], snapshot: str) -> None:
        self.snapshot = snapshot
        self._is_first = snapshot == SNAPSHOTS[0]
        gone = "added" if self._is_first else "removed"
        self.packages = [
            replace(package, pages=tuple(page for page in package.pages if fate(package, page) != gone))
            for package in packages
        ]
        self._routes: dict[str, dict[str, Callable[[], Answer]]] = {}
        self._add_hub()
        for package in self.packages:
            _Host(package, self._is_first, self._routes.setdefault(_host(package), {})).add_routes()

    def answer(self, host: str, path: str) -> Answer:
        routes = self._routes.get(host)
        if routes is None:
            return Answer(421)
        path = path.partition("?")[0]
        if path == "/robots.txt":
            return Answer(200, ROBOTS.encode(), (("Content-Type", "text/plain; charset=utf-8"),))
        if path == "/":
            return Answer(301, b"", (("Location", f"http://{host}/index.html"),))
        render = routes.get(path)
        return render() if render else Answer(404, b"<h1>Not Found</h1>", (("Content-Type", "text/html"),))

    @property
    def addresses(self) -> list[str]:
        """Every page there is to serve, whether a crawler may ask for it or not."""
        return [f"http://{host}{path}" for host, routes in self._routes.items() for path in routes]

    def _add_hub(self) -> None:
        host = f"www.{DOMAIN}"
        routes = self._routes.setdefault(host, {})
        letters = sorted({package.title[0].lower() for package in self.packages})
        routes["/index.html"] = partial(self._hub_page, "Documentation", self.packages, letters)
        for letter in letters:
            some = [package for package in self.packages if package.title[0].lower() == letter]
            routes[f"/packages/{quote(letter)}.html"] = partial(
                self._hub_page, f"Packages: {letter.upper()}", some, letters
            )
        routes["/search.html"] = partial(_html, "<h1>Search</h1>")

    def _hub_page(self, title: str, packages: list[Package], letters: list[str]) -> Answer:
        rows = "\n".join(
            f'<li><a href="http://{_host(package)}/">{escape(package.title)}</a> {escape(package.summary)}</li>'
            for package in packages
        )
        jump = " | ".join(
            f'<a href="/packages/{quote(letter)}.html">{escape(letter.upper())}</a>' for letter in letters
        )
        body = (
            f"<article><h1>{escape(title)}</h1>\n<p>Documentation of the {len(packages)} packages that are installed here, "
            f"read from their sources.</p>\n<p>{jump}</p>\n<ul>\n{rows}\n</ul></article>"
        )
        return _html(_frame(title, body, "", "", f"http://www.{DOMAIN}/index.html"))


class _Host:
    """The site of one package."""

    def __init__(self, package: Package, is_first: bool, routes: dict[str, Callable[[], Answer]]) -> None:
        self.package = package
        self.is_first = is_first
        self.routes = routes
        self.origin = f"http://{_host(package)}"
        self.pages = [page for page in package.pages if page.kind in ("module", "topic")]
        self.licenses = [page for page in package.pages if page.kind == "license"]
        # Menus name the pages that are in both snapshots, as a site's menus change less often than its pages.
        self.listed = sorted(page.name for page in self.pages if fate(package, page) in ("same", "changed"))
        self.letters = _index_letters(self.pages)
        self.about = next((page for page in package.pages if page.kind == "description"), None)

    def add_routes(self) -> None:
        routes = self.routes
        routes["/index.html"] = self._home
        routes["/modules.html"] = self._modules
        routes["/search.html"] = partial(_html, "<h1>Search</h1>")
        for page in self.pages:
            path = _path(page.name)
            routes[f"/api/{path}.html"] = partial(self._page, page)
            routes[f"/_sources/api/{path}.txt"] = partial(self._source, page)
            if _has_alias(self.package, page):
                routes[f"/api/{path}/index.html"] = partial(self._page, page)
            if _has_print(self.package, page):
                routes[f"/print/{path}.html"] = partial(self._printed, page)
        if self.about:
            routes["/about.html"] = partial(self._page, self.about)
        for number, page in enumerate(self.licenses):
            routes[_license_path(number)] = partial(self._license, page)
        for letter in self.letters:
            routes[f"/genindex-{letter}.html"] = partial(self._general_index, letter)
        if self.package.name == REFERENCE:
            routes["/changes.html"] = partial(_html, "")  # a page somebody forgot to fill

    # Pages

    def _page(self, page: Page) -> Answer:
        page = _edited(self.package, page) if self.is_first else page
        name = escape(page.name) if page.kind != "description" else escape(self.package.title)
        extras = []
        if page.kind != "description":
            path = _path(page.name)
            extras.append(f'<a href="/_sources/api/{path}.txt">View source</a>')
            if _has_print(self.package, page):
                extras.append(f'<a href="/print/{path}.html">Printable version</a>')
            if _has_alias(self.package, page):
                extras.append(f'<a href="/api/{path}/index.html">Permalink</a>')
        body = (
            f'<article>\n<h1>{name}</h1>\n{_content(page)}\n</article>\n<p class="page-tools">{" | ".join(extras)}</p>'
        )
        answer = self._framed(page.name, body, page)
        return _in_latin1(answer) if share(f"latin1 {self.package.name} {page.name}") < 0.5 else answer

    def _printed(self, page: Page) -> Answer:
        page = _edited(self.package, page) if self.is_first else page
        title = f"{escape(page.name)} ({escape(self.package.title)} {escape(self.package.version)})"
        return _html(
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n<body>'
            f"<p>Printed from {self.origin}/api/{_path(page.name)}.html</p>\n<h1>{escape(page.name)}</h1>\n{_content(page)}\n"
            "</body></html>\n"
        )

    def _source(self, page: Page) -> Answer:
        return Answer(200, page.doc.encode("utf-8", "replace"), (("Content-Type", "text/plain; charset=utf-8"),))

    def _license(self, page: Page) -> Answer:
        body = f"<article>\n<h1>{escape(page.name)}</h1>\n{_content(page)}\n</article>"
        return self._framed(f"License of {self.package.title}", body, page)

    def _home(self) -> Answer:
        package = self.package
        first = next(
            (block for block in self._about_blocks() if block.kind == "paragraph" and len(block.text) > 80), None
        )
        links = [f'<li><a href="/api/{_path(name)}.html">{escape(name)}</a></li>' for name in self.listed[:40]]
        more = ['<li><a href="/about.html">About this package</a></li>'] if self.about else []
        if package.name == REFERENCE:
            more.append('<li><a href="/changes.html">Changes</a></li>')
        body = (
            f"<article>\n<h1>{escape(package.title)} {escape(package.version)}</h1>\n<p>{escape(package.summary)}</p>\n"
            f"{markup.to_html([first]) if first else ''}\n<h2>Contents</h2>\n<ul>\n{chr(10).join(more + links)}\n</ul>\n"
            f'<p>The <a href="/modules.html">list of all pages</a> has {len(self.pages)} entries.</p>\n</article>'
        )
        return self._framed(package.title, body, None)

    def _about_blocks(self) -> list[markup.Block]:
        return markup.parse(self.about.doc, self.about.markup) if self.about else []

    def _modules(self) -> Answer:
        rows = "\n".join(
            f'<tr><td><a href="/api/{_path(page.name)}.html"><code>{escape(page.name)}</code></a></td>'
            f"<td>{escape(summary_of(page.doc))}</td></tr>"
            for page in self.pages
        )
        body = f"<article><h1>All pages</h1>\n<table>\n{rows}\n</table></article>"
        return self._framed("All pages", body, None)

    def _general_index(self, letter: str) -> Answer:
        entries = sorted(
            (member.name, member.kind, page.name)
            for page in self.pages
            for member in page.members
            if letter in ("all", member.name[0].lower())
        )
        rows = "\n".join(
            f'<li><a href="/api/{_path(module)}.html#{escape(name)}">{escape(name)} ({kind} in {escape(module)})</a></li>'
            for name, kind, module in entries[:1000]
        )
        jump = " | ".join(f'<a href="/genindex-{other}.html">{escape(other.upper())}</a>' for other in self.letters)
        return self._framed(
            f"Index {letter.upper()}",
            f"<h1>Index</h1>\n<p>{jump}</p>\n<h2>{letter.upper()}</h2>\n<ul>\n{rows}\n</ul>",
            None,
        )

    # The frame round them

    def _framed(self, title: str, body: str, page: Page | None) -> Answer:
        package = self.package
        updated = self._updated(page)
        href = self._license_href()
        stated = (
            f'<a rel="license" href="{escape(href)}">{escape(package.license or "its own license")}</a>' if href else ""
        )
        html = _frame(
            f"{title} — {package.title} {package.version} documentation"
            if title != package.title
            else f"{title} documentation",
            body,
            self._sidebar(title),
            f"<p>{escape(package.title)} is made available under {stated}.</p>\n<p>Last updated on {updated:%d %B %Y}.</p>",
            f"{self.origin}/index.html",
        )
        return _html(html, updated)

    def _license_href(self) -> str:
        if _SIMPLE_LICENSE.fullmatch(self.package.license):
            return f"https://spdx.org/licenses/{self.package.license}.html"
        return "/license.html" if self.licenses else ""

    def _updated(self, page: Page | None) -> datetime:
        """When a page says it was last touched: within the month before a snapshot that changed it, else long before."""
        key = share(f"updated {self.package.name} {page.name if page else ''}")
        if page is not None and not self.is_first and fate(self.package, page) in ("changed", "added"):
            return crawl_date(SNAPSHOTS[1]) - timedelta(days=1 + int(key * 28))
        return datetime(2026, 1, 10, 8, tzinfo=UTC) + timedelta(days=int(key * 240))

    def _sidebar(self, title: str) -> str:
        at = bisect_left(self.listed, title)
        near = self.listed[max(0, at - 8) : at + 8]
        links = "\n".join(f'<li><a href="/api/{_path(name)}.html">{escape(name)}</a></li>' for name in near)
        index = f'<li><a href="/genindex-{self.letters[0]}.html">Index</a></li>' if self.letters else ""
        text = '<li><a href="/license.html">License</a></li>' if self.licenses else ""
        more = "".join(
            f'<li><a href="{_license_path(number)}">{escape(page.name)}</a></li>'
            for number, page in enumerate(self.licenses)
            if number
        )
        return (
            f'<h4><a href="/index.html">{escape(self.package.title)}</a></h4>\n<ul>\n{links}\n</ul>\n'
            f'<ul>\n<li><a href="/modules.html">All pages</a></li>\n{index}{text}{more}\n</ul>'
        )


def _frame(title: str, body: str, sidebar: str, footer: str, home: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="stylesheet" href="/_static/docs.css">
</head>
<body>
<a class="skip-link" href="#content">Skip to main content</a>
<header class="navbar"><nav>
<ul>
<li><a href="{SEED}index.html">All packages</a></li>
<li><a href="http://python.{DOMAIN}/index.html">Standard library</a></li>
<li><a href="http://{REFERENCE}.{DOMAIN}/index.html">Language reference</a></li>
<li><a href="/search.html">Search</a></li>
</ul>
</nav></header>
<nav class="breadcrumb" aria-label="breadcrumb"><a href="{home}">Home</a> &raquo; {escape(title.partition(" — ")[0])}</nav>
<aside class="sidebar">
{sidebar}
</aside>
<main id="content">
{body}
</main>
<footer class="footer">
{footer}
<p>Was this page helpful? <a href="/search.html?feedback=yes">Yes</a> <a href="/search.html?feedback=no">No</a></p>
</footer>
</body>
</html>
"""


def _html(text: str, updated: datetime | None = None) -> Answer:
    headers = [("Content-Type", "text/html; charset=utf-8")]
    if updated is not None:
        headers.append(("Last-Modified", format_datetime(updated, usegmt=True)))
    return Answer(200, text.encode("utf-8", "replace"), tuple(headers))


def _in_latin1(answer: Answer) -> Answer:
    """The page as an old server would send it, where its letters allow that and it has any beyond ASCII."""
    text = answer.body.decode().replace('<meta charset="utf-8">\n', "").replace("—", "-")
    if text.isascii():
        return answer
    try:
        body = text.encode("latin-1")
    except UnicodeEncodeError:
        return answer
    return Answer(200, body, (("Content-Type", "text/html; charset=iso-8859-1"), *answer.headers[1:]))


def _content(page: Page) -> str:
    parts = [markup.to_html(markup.parse(page.doc, page.markup))]
    parts += [
        f'<section id="{escape(member.name)}">\n<h2><code>{escape(member.name + member.signature)}</code></h2>\n'
        f"{markup.to_html(markup.parse(member.doc, 'rst'))}\n</section>"
        for member in page.members
    ]
    return "\n".join(parts)


def _edited(package: Package, page: Page) -> Page:
    """A changed page as it was before: without some of its members, and without some paragraphs."""
    if fate(package, page) != "changed":
        return page
    first, *rest = re.split(r"\n\s*\n", page.doc)
    key = f"edit {package.name} {page.name}"
    doc = "\n\n".join([first, *(part for number, part in enumerate(rest) if share(f"{key} {number}") >= 0.2)])
    members = tuple(member for member in page.members if share(f"{key} {member.name}") >= 0.25)
    return replace(page, doc=doc, members=members)


def _index_letters(pages: list[Page]) -> list[str]:
    """The pages of a general index: none for a small site, one, or one for each letter of a large one."""
    names = [member.name for page in pages for member in page.members]
    if len(pages) < 8 or not names:
        return []
    return ["all"] if len(names) <= 1000 else sorted({name[0].lower() for name in names if name[0].isascii()})


def summary_of(doc: str) -> str:
    """The first sentence of a text, as an index shows it."""
    first = " ".join(re.split(r"\n\s*\n", doc.strip(), maxsplit=1)[0].split())
    return re.split(r"(?<=[.!?])\s", first, maxsplit=1)[0][:200]


def _host(package: Package) -> str:
    return f"{package.name}.{DOMAIN}"


def _path(name: str) -> str:
    return quote(name, safe=".")


def _license_path(number: int) -> str:
    return f"/license-{number + 1}.html" if number else "/license.html"


def _has_alias(package: Package, page: Page) -> bool:
    return share(f"alias {package.name} {page.name}") < ALIASES


def _has_print(package: Package, page: Page) -> bool:
    return share(f"print {package.name} {page.name}") < PRINTED
