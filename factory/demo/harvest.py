"""Reads documentation out of what is installed, without importing or running any of it.

Sources are parsed, never executed: docstrings and signatures of the standard library and of the packages of the running
environment, the language reference that ships with Python (`pydoc_data/topics.py`), long descriptions and licences from the
packages' own metadata. For one environment the result is always the same, in the same order.
"""

import ast
import importlib.metadata
import json
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from typing import cast

import xxhash

MAX_SOURCE_BYTES = 150_000  # parsing a larger file costs more than its docstrings are worth here
MAX_TEXT_BYTES = 1_000_000
MAX_PAGE_CHARS = 30_000
MAX_MEMBERS = 80
MIN_PAGE_CHARS = 40
MAX_LICENSES = 3

STDLIB = "python"
REFERENCE = "reference"

_SKIPPED_FOLDERS = {
    "__pycache__", "site-packages", "dist-packages", "test", "tests", "testing", "idle_test", "_bundled", "lib-dynload",
    "vendor", "vendored", "_vendor", "_vendored", "extern", "externals", "third_party", "thirdparty", "examples", "node_modules",
}  # fmt: skip

# What the index of packages calls a licence, as SPDX spells it (https://spdx.org/licenses/).
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0", "MIT License": "MIT", "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC", "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0", "The Unlicense (Unlicense)": "Unlicense", "zlib/libpng License": "Zlib",
}  # fmt: skip
_SPDX = re.compile(r"[A-Za-z0-9.+-]{2,40}(?: (?:AND|OR|WITH) [A-Za-z0-9.+-]{2,40}){0,6}")
_LICENSE_FILE = re.compile(r"(?:licen[cs]e|copying|notice)[^/]{0,60}$", re.I)


@dataclass(frozen=True, slots=True)
class Member:
    kind: str  # function, class or method
    name: str
    signature: str
    doc: str


@dataclass(frozen=True, slots=True)
class Page:
    """What one page of a documentation site would show."""

    kind: str  # module, topic, description or license
    name: str
    doc: str
    members: tuple[Member, ...] = ()
    markup: str = "rst"  # or markdown, or text

    @property
    def size(self) -> int:
        return len(self.doc) + sum(len(member.doc) for member in self.members)


@dataclass(frozen=True, slots=True)
class Package:
    """A distribution, the standard library or the language reference: what would have a site of its own."""

    name: str  # also the first label of its host
    title: str
    version: str
    summary: str
    license: str  # an SPDX expression, or ""
    pages: tuple[Page, ...]


def share(key: str) -> float:
    """A number in [0, 1) that belongs to a key: the one source of chance in the demo."""
    return (xxhash.xxh3_64_intdigest(key.encode()) >> 11) / 2.0**53


def domain_of(package: Package, page: Page) -> str:
    if page.kind == "description":
        return "descriptions"
    if page.kind == "topic":
        return "reference"
    return "stdlib" if package.name == STDLIB else "packages"


def harvest(*, pages: int) -> Iterator[Package]:
    """The packages for a site of about `pages` pages: the standard library and the reference first, then by size."""
    yield _standard_library(max(4, pages // 5))
    yield _language_reference(max(3, pages // 20))
    yield from _distributions(max(4, pages // 2), sites=max(2, pages // 20))


# The standard library


def _standard_library(count: int) -> Package:
    root = sysconfig.get_path("stdlib")
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS and name.isidentifier())
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), root)
            if (
                name.endswith(".py")
                and not name.startswith("_sysconfigdata")
                and path != os.path.join("pydoc_data", "topics.py")
            ):
                files.append(path.replace(os.sep, "/"))
    pages = tuple(_module_pages(root, STDLIB, files, count))
    text = _read(os.path.join(root, "LICENSE.txt"))
    licenses = (Page("license", "LICENSE.txt", _cut(text), markup="text"),) if text else ()
    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    return Package(
        STDLIB, "Python standard library", version, "Modules that come with every Python.", "PSF-2.0", pages + licenses
    )


def _language_reference(count: int) -> Package:
    """The topics of the language reference, from the literal that Python keeps them in."""
    data = _read(os.path.join(sysconfig.get_path("stdlib"), "pydoc_data", "topics.py"))
    topics: dict[str, str] = {}
    tree = _parse(data)
    for node in tree.body if tree else ():
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            topics = ast.literal_eval(node.value)
    chosen = sorted(sorted(topics), key=lambda name: share(f"topic {name}"))[:count]
    pages = tuple(Page("topic", name, _cut(topics[name])) for name in sorted(chosen))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Package(REFERENCE, "The Python Language Reference", version, "Syntax and core semantics.", "PSF-2.0", pages)


# Packages


def _distributions(count: int, *, sites: int) -> Iterator[Package]:
    folders = list(dict.fromkeys(os.path.realpath(sysconfig.get_path(key)) for key in ("purelib", "platlib")))
    found: dict[str, tuple[importlib.metadata.Distribution, list[str]]] = {}
    for distribution in importlib.metadata.distributions(path=folders):
        name = re.sub(r"[^a-z0-9]+", "-", (distribution.metadata["Name"] or "").lower()).strip("-")
        if name and name not in found and name not in (STDLIB, REFERENCE, "www") and not _is_local(distribution):
            found[name] = distribution, sorted(_source_files(distribution))
    chosen = sorted(found, key=lambda name: (-len(found[name][1]), name))[:sites]
    cap = _cap([len(found[name][1]) for name in chosen], count)
    for name in sorted(chosen):
        yield _package(name, *found[name], cap)


def _is_local(distribution: importlib.metadata.Distribution) -> bool:
    """Whether it was installed from a folder, as a project under development is: its text would change with every edit."""
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    return "dir_info" in origin


def _metadata(distribution: importlib.metadata.Distribution) -> Message:
    return cast(Message, distribution.metadata)  # what it is; its declared protocol lacks `get`


def _source_files(distribution: importlib.metadata.Distribution) -> Iterator[str]:
    for file in distribution.files or ():
        *folders, name = file.parts
        if not name.endswith(".py") or name.endswith("_pb2.py") or name in ("conftest.py", "setup.py"):
            continue
        if folders and all(folder.isidentifier() and folder not in _SKIPPED_FOLDERS for folder in folders):
            yield "/".join(file.parts)


def _cap(sizes: Iterable[int], count: int) -> int:
    """The smallest cap under which the sizes add up to `count`: small packages are whole, large ones are cut alike."""
    ordered = sorted(sizes)
    for position, size in enumerate(ordered):
        cap = -(-count // (len(ordered) - position))
        if size >= cap:
            return cap
        count -= size
    return max(ordered, default=0)


def _package(name: str, distribution: importlib.metadata.Distribution, files: list[str], cap: int) -> Package:
    root = str(distribution.locate_file(""))
    metadata = _metadata(distribution)
    pages = list(_module_pages(root, name, files, cap))
    description = str(metadata.get_payload() or metadata.get("Description") or "")
    if len(description.strip()) >= MIN_PAGE_CHARS:
        kind = "markdown" if "markdown" in str(metadata.get("Description-Content-Type", "")).lower() else "rst"
        pages.append(Page("description", "about", _cut(description), markup=kind))
    pages.extend(_license_pages(root, distribution))
    return Package(
        name,
        metadata["Name"],
        distribution.version,
        str(metadata.get("Summary") or ""),
        _license(distribution),
        tuple(pages),
    )


def _license(distribution: importlib.metadata.Distribution) -> str:
    metadata = _metadata(distribution)
    stated = str(metadata.get("License-Expression") or metadata.get("License") or "").strip()
    if _SPDX.fullmatch(stated) and stated.upper() not in ("UNKNOWN", "BSD", "APACHE", "DUAL LICENSE"):
        return stated
    for classifier in metadata.get_all("Classifier") or ():
        spdx = _CLASSIFIERS.get(classifier.rpartition(" :: ")[2])
        if classifier.startswith("License ::") and spdx:
            return spdx
    return ""


def _license_pages(root: str, distribution: importlib.metadata.Distribution) -> Iterator[Page]:
    files = ["/".join(file.parts) for file in distribution.files or () if ".dist-info" in file.parts[0]]
    chosen = sorted((file.count("/"), file) for file in files if _LICENSE_FILE.match(file.rpartition("/")[2]))
    for _, file in chosen[:MAX_LICENSES]:
        text = _read(os.path.join(root, file))
        if len(text.strip()) >= MIN_PAGE_CHARS:
            yield Page("license", file.rpartition("/")[2], _cut(text), markup="text")


# Modules


def _module_pages(root: str, package: str, files: list[str], count: int) -> Iterator[Page]:
    """At most `count` pages of the modules that say something, public ones first, chosen by hash, in order of name."""
    modules = {_module_name(file): file for file in files}
    pages: list[Page] = []
    for name in sorted(modules, key=lambda name: (_is_private(name), share(f"{package} {name}"))):
        if len(pages) >= count:
            break
        page = _module_page(name, os.path.join(root, modules[name]))
        if page is not None:
            pages.append(page)
    yield from sorted(pages, key=lambda page: page.name)


def _module_name(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _is_private(name: str) -> bool:
    return any(part.startswith("_") for part in name.split("."))


def _module_page(name: str, path: str) -> Page | None:
    text = _read(path, MAX_SOURCE_BYTES)
    if '"""' not in text and "'''" not in text:
        return None
    tree = _parse(text)
    if tree is None:
        return None
    doc = ast.get_docstring(tree) or ""
    members: list[Member] = []
    room = MAX_PAGE_CHARS - len(doc)
    for member in _members(tree):
        room -= len(member.doc)
        if room < 0 or len(members) >= MAX_MEMBERS:
            break
        members.append(member)
    page = Page("module", name, _cut(doc), tuple(members))
    return page if page.size >= MIN_PAGE_CHARS else None


def _members(tree: ast.Module) -> Iterator[Member]:
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _member("function", "", node)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            doc = ast.get_docstring(node) or ""
            bases = ", ".join(_source(base) for base in node.bases)
            if doc:
                yield Member("class", node.name, f"({bases})" if bases else "", doc)
            for child in node.body:
                if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    yield from _member("method", f"{node.name}.", child)


def _member(kind: str, prefix: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Member]:
    doc = ast.get_docstring(node)
    if doc and not node.name.startswith("_"):
        yield Member(kind, prefix + node.name, f"({_source(node.args)})", doc)


def _source(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 300 else text[:300].rpartition(",")[0] + ", …"


def _parse(text: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's escapes are not our business
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _read(path: str, limit: int = MAX_TEXT_BYTES) -> str:
    """The text of a file; empty where there is none, or where it is larger than `limit`."""
    try:
        if os.path.getsize(path) > limit:
            return ""
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def _cut(text: str) -> str:
    """A text of bounded length, cut between two paragraphs."""
    text = text.replace("\r\n", "\n").replace("\x00", "")
    if len(text) <= MAX_PAGE_CHARS:
        return text
    return text[:MAX_PAGE_CHARS].rpartition("\n\n")[0] or text[:MAX_PAGE_CHARS]
