"""Finding documents and what stands beside them: thin columns first, the text of a single row only when it is shown."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.errors import FactoryError, InputError
from factory.core.manifest import Manifest, Part
from factory.core.schema import DOCUMENT
from factory.recipes.graph import column_owners
from factory.recipes.workspace import Workspace
from factory.storage.manifests import find_manifest, pointers
from factory.storage.parts import read_part

HEX = re.compile(r"[0-9a-f]{4,32}")
MOST_FOUND = 20


@dataclass(frozen=True)
class Place:
    """A document: the part it lies in, and its row there."""

    snapshot: str
    part: Part
    row: int


@dataclass
class Current:
    """What is current of a recipe's datasets; each manifest is read once. Needs no input file to be there."""

    workspace: Workspace
    manifests: dict[str, Manifest] = field(default_factory=dict)
    pointers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pointers = {item["name"]: item for item in pointers(self.workspace.store, self.workspace.recipe.name)}
        self._ids: dict[str, pa.Table] = {}
        self._parts: dict[str, dict[str, Part]] = {}

    def find(self, kind: str, label: str = "", partition: str = "") -> Manifest | None:
        name = (f"{kind}/{label}" if label else kind) + (f"@{partition}" if partition else "")
        if name not in self.manifests:
            pointer = self.pointers.get(name)
            manifest = find_manifest(self.workspace.store, pointer["manifest"]) if pointer else None
            if manifest is None:
                return None
            self.manifests[name] = manifest
        return self.manifests[name]

    def of(self, kind: str) -> list[Manifest]:
        """Every current manifest of a kind, by name."""
        found = [
            self.find(item["kind"], item["label"], item["partition"])
            for _, item in sorted(self.pointers.items())
            if item["kind"] == kind
        ]
        return [manifest for manifest in found if manifest is not None]

    @property
    def snapshots(self) -> list[str]:
        return [manifest.partition for manifest in self.of("documents")]

    def documents(self) -> Iterator[tuple[str, Part]]:
        """Every document part with its snapshot; raises FactoryError when there is none."""
        manifests = self.of("documents")
        if not manifests:
            raise FactoryError(
                f"Nothing of recipe '{self.workspace.recipe.name}' is in {self.workspace.store.url} yet. Run 'factory run'."
            )
        for manifest in manifests:
            for part in manifest.parts:
                yield manifest.partition, part

    def beside(self, kind: str, label: str, snapshot: str, document: Part) -> Part | None:
        """The thin part that stands beside a document part, if it is of the very same rows."""
        manifest = self.find(kind, label, snapshot)
        if manifest is None:
            return None
        if manifest.path not in self._parts:
            self._parts[manifest.path] = {part.name: part for part in manifest.parts}
        found = self._parts[manifest.path].get(document.digest)
        return found if found is not None and found.ids == document.ids else None

    def ids(self, document: Part) -> pa.Table:
        """doc_id and url of a document part, kept for the next question."""
        if document.path not in self._ids:
            self._ids[document.path] = read_part(self.workspace.store, document, ["doc_id", "url"])
        return self._ids[document.path]

    def where(self, doc_id: str) -> Place | None:
        """The place of the document with exactly this id."""
        return next((place for place in self._matching("doc_id", lambda column: pc.equal(column, doc_id))), None)

    def search(self, query: str) -> list[Place]:
        """Documents by id, beginning of an id, URL, or beginning of a URL.

        A URL may be in several snapshots: all are given. Raises InputError when nothing, or too much, is meant.
        """
        query = query.strip()
        if HEX.fullmatch(query):
            found = self._matching("doc_id", lambda column: pc.starts_with(column, query))
            if len(found) > 1 and len(query) < 32:
                raise self._ambiguous(query, found)
            if found:
                return found
        for test in (
            lambda column: pc.equal(column, query),
            lambda column: pc.equal(_bare(column), _bare_text(query)),
            lambda column: pc.starts_with(_bare(column), _bare_text(query)),
        ):
            found = self._matching("url", test)
            urls = {self.ids(place.part).column("url")[place.row].as_py() for place in found}
            if len(urls) == 1:
                return found
            if urls:
                raise self._ambiguous(query, found)
        raise InputError(f"No document has the id or URL '{query[:200]}'.{self._near(query)}")

    def _matching(self, column: str, test: Any) -> list[Place]:
        found = []
        for snapshot, part in self.documents():
            mask = pc.fill_null(test(self.ids(part).column(column)), False).to_numpy()
            found += [Place(snapshot, part, int(row)) for row in np.flatnonzero(mask)]
        return found

    def _ambiguous(self, query: str, found: list[Place]) -> InputError:
        lines = []
        for place in found[:MOST_FOUND]:
            row = self.ids(place.part).slice(place.row, 1).to_pylist()[0]
            lines.append(f"  {row['doc_id']}  {place.snapshot}  {row['url'] or ''}")
        more = f"\n  and {len(found) - MOST_FOUND:,} more" if len(found) > MOST_FOUND else ""
        return InputError(
            f"'{query}' is the beginning of {len(found):,} documents; name one:\n" + "\n".join(lines) + more
        )

    def _near(self, query: str) -> str:
        """Other URLs of the same place, for a query that matches none."""
        words = [word for word in re.split(r"[^\w.-]+", query) if len(word) > 3]
        for word in reversed(words):
            found = self._matching("url", lambda column, word=word: pc.match_substring(column, word, ignore_case=True))
            if found:
                urls = [self.ids(place.part).column("url")[place.row].as_py() for place in found[:3]]
                return f" URLs with '{word}': {', '.join(urls)}" + (" …" if len(found) > 3 else "")
        total = sum(part.rows for _, part in self.documents())
        return f" There are {total:,} documents in {', '.join(self.snapshots)}; 'factory look' shows some."

    def row(self, place: Place, columns: Sequence[str] = tuple(DOCUMENT.names)) -> dict[str, Any]:
        """Document columns of one row."""
        table = read_part(self.workspace.store, place.part, list(columns))
        return dict(table.slice(place.row, 1).to_pylist()[0])

    def beside_row(self, kind: str, label: str, place: Place, columns: Sequence[str]) -> dict[str, Any] | None:
        """Columns of a thin dataset at one row; None when the dataset is not there."""
        part = self.beside(kind, label, place.snapshot, place.part)
        if part is None:
            return None
        return dict(read_part(self.workspace.store, part, list(columns)).slice(place.row, 1).to_pylist()[0])

    def column(self, name: str, snapshot: str, document: Part) -> pa.ChunkedArray | None:
        """A column that a rule reads, beside a document part: of the documents, a scorer or a linker."""
        owners = column_owners(self.workspace.recipe)
        if name not in owners:
            return read_part(self.workspace.store, document, [name]).column(name)
        kind, label, stored = owners[name]
        part = self.beside(kind, label, snapshot, document)
        return self.thin(part, stored) if part is not None else None

    def thin(self, part: Part, stored: str) -> pa.ChunkedArray:
        """One column of a thin part."""
        return read_part(self.workspace.store, part, [stored]).column(stored)


def _bare(column: pa.ChunkedArray) -> pa.ChunkedArray:
    plain = pc.replace_substring_regex(column, r"^[A-Za-z][A-Za-z0-9+.-]*://", "")
    return pc.replace_substring_regex(plain, r"/+$", "")


def _bare_text(url: str) -> str:
    return re.sub(r"/+$", "", re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://", "", url))


def describe_rule(rule: Mapping[str, Any], fitted: Mapping[str, Any] | None = None) -> str:
    """What a document must be to pass, in a few words; `rule` is as a decisions manifest keeps it."""
    settings = rule["settings"]
    column = settings.get("column", ", ".join(rule.get("reads", ())))
    if rule["stage"] == "in_range":
        low, high = settings.get("min"), settings.get("max")
        if low is not None and high is not None:
            return f"{low:,} ≤ {column} ≤ {high:,}"
        return f"{column} ≥ {low:,}" if low is not None else f"{column} ≤ {high:,}"
    if rule["stage"] == "one_of":
        return f"{column} is one of {', '.join(str(item) for item in settings['values'])}"
    if rule["stage"] == "is_absent":
        return f"no {column}"
    if rule["stage"] == "top_share":
        cut = (fitted or {}).get("score")
        return f"{column} among the top {settings['share']:.4g}" + (f", from {cut:.4g}" if cut is not None else "")
    return f"{rule['stage']}({', '.join(f'{key}={item}' for key, item in settings.items())})"


def bounds(rule: Mapping[str, Any], fitted: Mapping[str, Any] | None = None) -> list[float]:
    """The thresholds of a rule over a number, for a line in a plot and for 'near the threshold'."""
    settings = rule["settings"]
    if rule["stage"] == "in_range":
        return [float(bound) for bound in (settings.get("min"), settings.get("max")) if bound is not None]
    if rule["stage"] == "top_share" and (fitted or {}).get("score") is not None:
        return [float((fitted or {})["score"])]
    return []
