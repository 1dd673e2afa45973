"""What a dataset consists of: the record that is written last and that readers follow."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from factory.core.fingerprint import digest_all, fingerprint


@dataclass(frozen=True)
class Part:
    """One file of a dataset.

    `path` is relative to the store. `digest` is over the content (Arrow values, or the bytes of a file that is not a
    table). `ids` is the digest of the doc_id column of the document part these rows belong to: an aligned read compares
    it. `name` is the identity of what the part was made from. `notes` are the part's own counts, added up by its step.
    `checksum` is over the bytes of the file: Parquet holds more than values, and `factory verify` answers for all of it.
    """

    name: str
    path: str
    rows: int
    bytes: int
    digest: str
    ids: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)
    checksum: str = ""

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))  # not asdict: it would copy every number of the notes, one by one

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Part":
        return Part(**data)


@dataclass(frozen=True)
class Manifest:
    """An immutable dataset: what was asked (`spec`, `inputs`), what came out (`parts`, `digest`), and its books.

    `inputs` maps the name of every dataset read to its digest. `ledger` accounts for the rows. `notes` holds what a
    person wants to see. `run` says when and how long; it enters no hash.
    """

    kind: str
    label: str
    partition: str
    fingerprint: str
    spec: Mapping[str, Any]
    inputs: Mapping[str, str]
    parts: tuple[Part, ...]
    ledger: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return dataset_name(self.kind, self.label, self.partition)

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    @property
    def digest(self) -> str:
        return digest_all(f"{part.name}={part.digest}" for part in self.parts)

    @property
    def path(self) -> str:
        return manifest_path(self.kind, self.label, self.fingerprint, self.partition, self.inputs)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "digest": self.digest, "rows": self.rows}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Manifest":
        known = {key: value for key, value in data.items() if key not in ("digest", "rows")}
        return Manifest(**{**known, "parts": tuple(Part.from_json(part) for part in data["parts"])})


def dataset_name(kind: str, label: str, partition: str) -> str:
    """How a dataset is called in plans, messages and lineage: `scores/words@2026-10`."""
    name = f"{kind}/{label}" if label else kind
    return f"{name}@{partition}" if partition else name


def dataset_folder(kind: str, label: str, fingerprint: str, partition: str) -> str:
    return "/".join(piece for piece in (kind, label, fingerprint, partition) if piece)


def manifest_path(kind: str, label: str, made_as: str, partition: str, inputs: Mapping[str, str]) -> str:
    """Where the manifest of this exact work lies: what was asked, and the content it was asked of."""
    return f"{dataset_folder(kind, label, made_as, partition)}/manifest-{fingerprint(dict(inputs))}.json"
