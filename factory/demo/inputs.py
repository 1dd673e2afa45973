"""Everything the demo reads, made from what is installed: two crawled snapshots, held-out text, references and tasks."""

import json
import os
from collections.abc import Callable
from typing import Any

from factory.core.errors import FactoryError, InputError
from factory.core.fingerprint import fingerprint
from factory.crawl.crawler import CrawlConfig, crawl
from factory.demo.harvest import Package, harvest
from factory.demo.references import split, write_references
from factory.demo.server import serve
from factory.demo.site import DOMAIN, SEED, SNAPSHOTS, Site, crawl_date

Progress = Callable[[int, int | None, str], None]

PAGES = 3000
HELD_OUT_CHARS = 60_000  # of each domain
TASK_ITEMS = 200  # of each task
FILE_BYTES = 2_000_000
SUMMARY = "inputs.json"
EXPECTED_OUTCOMES = {"stored", "redirect", "redirect_to_known", "robots", "http_404", "content_type"}
VERSION = 1  # of what is made here; raise it when the same packages may give other inputs


def make_inputs(directory: str, *, pages: int = PAGES, progress: Progress | None = None) -> dict[str, Any]:
    """Make the inputs in `directory` and return paths and counts; what is complete is left as it is.

    Raises InputError where the folder holds inputs that were asked for differently, or come from other packages.
    """
    report = progress or _silent
    summary_path = os.path.join(directory, SUMMARY)
    asked: dict[str, Any] = {"pages": pages, "version": VERSION}
    done = _read(summary_path)
    if done is not None:
        _require_same(directory, done["asked"], asked)
        return _with_paths(directory, done)
    os.makedirs(directory, exist_ok=True)
    packages = _harvest(pages, report)
    parts = split(packages)
    asked["environment"] = _digest(packages)
    # Written before the rest: a run that was cut off goes on only with the packages that it began with.
    begun = _read(os.path.join(directory, "begun.json"))
    if begun is not None:
        _require_same(directory, begun, asked)
    _write(os.path.join(directory, "begun.json"), asked)
    report(0, None, "writing held-out text")
    rows = write_references(parts, directory, held_out_chars=HELD_OUT_CHARS, items=TASK_ITEMS)
    crawls = {snapshot: _crawl(Site(parts.shown, snapshot), directory, pages, report) for snapshot in SNAPSHOTS}
    made = {"asked": asked, "rows": rows, "crawls": crawls, "packages": len(packages)}
    _write(summary_path, made)
    return _with_paths(directory, made)


def _harvest(pages: int, report: Progress) -> list[Package]:
    packages = []
    for package in harvest(pages=pages):
        packages.append(package)
        report(len(packages), None, "reading documentation")
    return packages


def _crawl(site: Site, directory: str, pages: int, report: Progress) -> dict[str, Any]:
    """One snapshot over HTTP. The demo must not depend on the load of the machine, so a crawl that was cut short fails."""
    total = len(site.addresses)
    with serve(site.answer) as address:
        config = CrawlConfig(
            seeds=(SEED,),
            snapshot=site.snapshot,
            hosts=(f".{DOMAIN}",),
            resolve={f".{DOMAIN}": address},
            max_pages=4 * pages + 1000,
            max_page_bytes=2_000_000,
            max_seconds=600,
            timeout=60,
            attempts=3,
            concurrency=16,
            host_concurrency=16,
            delay=0,
            compressed=False,
            file_bytes=FILE_BYTES,
            date=crawl_date(site.snapshot),
        )
        summary = crawl(
            config, os.path.join(directory, "crawl"), lambda done, _, what: report(min(done, total), total, what)
        )
    failed = {outcome: count for outcome, count in summary["outcomes"].items() if outcome not in EXPECTED_OUTCOMES}
    if failed or summary["stopped"]:
        raise FactoryError(
            f"The demo's crawl of {site.snapshot} did not get every page: {failed or summary['stopped']}. "
            f"Remove {os.path.join(directory, 'crawl', site.snapshot)} and run it again."
        )
    return summary


def _digest(packages: list[Package]) -> str:
    described = {
        package.name: [
            package.version,
            package.license,
            [[page.name, page.doc, [m.doc for m in page.members]] for page in package.pages],
        ]
        for package in packages
    }
    return fingerprint(described)


def _require_same(directory: str, there: dict[str, Any], asked: dict[str, Any]) -> None:
    differing = sorted(key for key in asked if there.get(key) != asked[key])
    if differing:
        what = ", ".join(f"{key} {there.get(key)}, asked {asked[key]}" for key in differing)
        raise InputError(
            f"{directory} holds demo inputs that differ ({what}). Remove that folder, or name another one."
        )


def _with_paths(directory: str, made: dict[str, Any]) -> dict[str, Any]:
    paths = {name: os.path.join(directory, name) for name in ("crawl", "heldout", "references", "tasks")}
    return {**made, "paths": paths, "pattern": os.path.join(directory, "crawl", "*", "*.warc.gz")}


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as stream:
            value: dict[str, Any] = json.load(stream)
    except FileNotFoundError:
        return None
    return value


def _write(path: str, value: dict[str, Any]) -> None:
    with open(path + ".tmp", "w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1, sort_keys=True)
    os.replace(path + ".tmp", path)


def _silent(done: int, total: int | None, what: str) -> None:
    pass
