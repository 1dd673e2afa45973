"""factory extract: what extractors make of pages, side by side."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.cli.options import Json, print_json, print_rich

if TYPE_CHECKING:
    from factory.evaluation.extraction import Page

_MAX_BYTES = 10_000_000
_SECONDS = 30
_REDIRECTS = 5


def command(
    source: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE|URL...", help="WARC files, HTML files, JSON lines with 'html', or an address."),
    ] = None,
    extractor: Annotated[
        str, typer.Option("--extractor", help="Its name, and settings: resiliparse:structure=true,lists=false")
    ] = "resiliparse",
    against: Annotated[
        list[str] | None, typer.Option("--against", help="Another one, in the same form; may be repeated.")
    ] = None,
    number: Annotated[
        int, typer.Option("-n", min=1, max=100_000, help="How many pages, by a hash of their keys.")
    ] = 20,
    gold: Annotated[
        list[str] | None,
        typer.Option(
            "--gold", metavar="FILE", help="JSON lines with 'html', 'gold_text' and snippets to score against."
        ),
    ] = None,
    lines: Annotated[int, typer.Option("--lines", min=0, help="Differing lines shown of each page.")] = 12,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another sample.")] = 0,
    as_json: Json = False,
) -> None:
    """Try extractors on pages: the text of one, or two of them side by side, with differences, time and scores."""
    from factory.core.errors import InputError
    from factory.evaluation.extraction import make_extractor, sample, try_out
    from factory.reports.extraction import comparison

    places = [*(source or []), *(gold or [])]
    if not places:
        raise InputError("Nothing to extract from. Name a WARC file, an HTML file, a JSON lines file or an address.")
    extractors = [make_extractor(spec) for spec in dict.fromkeys([extractor, *(against or [])])]
    pages = sample((page for place in places for page in _pages(place)), number, seed)
    if not pages:
        raise InputError(f"No page in {', '.join(places)}.")
    if len(extractors) == 1 and len(pages) == 1 and pages[0].gold is None and not as_json:
        _show_text(extractors[0], pages[0])
        return
    made = try_out(extractors, pages)
    if as_json:
        print_json(made)
    else:
        print_rich(comparison(made, lines))


def _show_text(extractor: Any, page: "Page") -> None:
    from factory.core.errors import InputError
    from factory.evaluation.extraction import extract
    from factory.reports.text import clean

    outcome = extract(extractor, page)
    if outcome.text is None:
        raise InputError(f"{page.key}: {outcome.error}")
    print(clean(outcome.text, lines=True))


def _pages(place: str) -> "Iterator[Page]":
    from factory.evaluation.extraction import Page, gold_pages

    if place.startswith(("http://", "https://")):
        yield _fetched(place)
        return
    path = Path(place)
    name = path.name.lower()
    for ending in (".gz", ".zst"):
        name = name.removesuffix(ending)
    if name.endswith((".html", ".htm", ".xhtml")):
        yield Page(place, path.read_bytes())
    elif name.endswith((".jsonl", ".ndjson", ".json")):
        yield from gold_pages(_lines(path))
    else:
        yield from _warc_pages(path)


def _lines(path: Path) -> Iterator[bytes]:
    import gzip
    import io

    import zstandard

    with path.open("rb") as stream:
        if path.suffix == ".zst":
            yield from io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True))
        elif path.suffix == ".gz":
            with gzip.open(stream) as unpacked:
                yield from unpacked
        else:
            yield from stream


def _warc_pages(path: Path) -> "Iterator[Page]":
    from factory.core.registry import find_stage
    from factory.core.stage import InputFile
    from factory.evaluation.extraction import Page

    stage = find_stage("source", "warc")
    warc = stage.make(stage.config())
    size = path.stat().st_size
    with path.open("rb") as stream:
        for part in warc.split(InputFile(str(path), path.name, size, ""), max(size, 1)):
            for batch in warc.read(stream, part):
                for row in batch.select(["key", "payload", "content_type", "url"]).to_pylist():
                    if row["payload"] is not None:
                        yield Page(row["key"], row["payload"], row["content_type"], row["url"])


def _fetched(url: str) -> "Page":
    """The page at a public address, by the crawler's guarded network; one request, and up to five redirects."""
    import asyncio

    import h11

    from factory.core.errors import InputError
    from factory.crawl.network import RefusedAddress

    try:
        return asyncio.run(asyncio.wait_for(_fetch(url), _SECONDS))
    except (OSError, h11.RemoteProtocolError, RefusedAddress, TimeoutError) as error:
        raise InputError(f"{url} cannot be read: {error or 'no answer in time'}.") from error


async def _fetch(url: str) -> "Page":
    from urllib.parse import urljoin

    from factory.core.errors import InputError
    from factory.crawl.network import Network
    from factory.evaluation.extraction import Page
    from factory.stages.sources.bodies import decode_body

    network = Network({})
    headers = [("User-Agent", "corpus-factory"), ("Accept", "text/html"), ("Accept-Encoding", "gzip")]
    place = url
    try:
        for _ in range(_REDIRECTS + 1):
            async with network.get(place, headers) as response:
                if response.status in (301, 302, 303, 307, 308) and response.header("location"):
                    place = urljoin(place, response.header("location"))
                    continue
                if response.status != 200:
                    raise InputError(f"{place} answers with status {response.status}.")
                body = bytearray()
                async for piece in response.body():
                    body += piece
                    if len(body) > _MAX_BYTES:
                        raise InputError(f"{place} has more than {_MAX_BYTES:,} bytes.")
                payload = decode_body(
                    bytes(body), transfer="", content=response.header("content-encoding"), limit=_MAX_BYTES
                )
                return Page(url, payload, response.header("content-type", "text/html"), place)
        raise InputError(f"{url} redirects more than {_REDIRECTS} times.")
    finally:
        network.close()
