"""What a stage is: a named, versioned function from declared columns of a batch to declared new columns.

Same rows, same order, nothing but the declared columns in and out. The factory function runs once per worker (models and
tables are loaded there); the function it returns is pure.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as release
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

from factory.core.columns import Refusal
from factory.core.config import Config

BatchFunction = Callable[[pa.RecordBatch], pa.RecordBatch]
# What a stage's settings name: the path, glob or folder as it is written there, to the content of each file it means.
Files = Mapping[str, Mapping[str, bytes]]
# The same for files that are read where they lie, such as weights: full local names, sorted.
Paths = Mapping[str, tuple[str, ...]]
Columns = Mapping[str, pa.DataType]

KINDS = {
    "sources": "source",
    "extractors": "extractor",
    "normalizers": "normalizer",
    "scorers": "scorer",
    "linkers": "linker",
    "filters": "filter",
    "selectors": "selector",
    "mixers": "mixer",
    "packers": "packer",
    "rewriters": "rewriter",
    "searchers": "searcher",
}


def installed(package: str) -> str | None:
    try:
        return release(package)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Stage:
    """One entry of the catalogue.

    `make(config)` gives the BatchFunction. `reads` and `writes` may depend on the settings. `train`, where there is one,
    makes the model file the stage needs (see `Training`); `make` then gets it as `make(config, model_path)`. `fit`, on a
    filter that compares documents with each other, gets one snapshot's table (its columns and `doc_id`, only documents no
    other rule drops) and returns plain numbers; `make` then gets them as `make(config, fitted)`. A selector, which writes how
    often each kept document is taken (`repeats`, uint16), is fitted on one table of all snapshots: the columns it reads and
    `removed`, whether filters drop the document, of the documents that stand for their cluster. `files(config)`, on a
    scorer, linker or filter, says which files beside the recipe the stage needs (word lists, block lists, tables); their
    content is part of its identity, and `make` gets it as `make(..., files=files)`. `packages(config)` are libraries whose
    release decides the output; the installed versions are part of the identity. `links`, on a linker, is the join that turns
    its keys into columns (see `factory.core.links`), and `join_settings` are those of its settings that only the join reads:
    changing them makes no keys again. `paths(config)` is like `files`, for local files too large to be handed over as bytes:
    `make`, and the training's `fit`, get `paths=paths`. `check(config, files)`, on a stage with `files`, says everything that is
    wrong with those given to it. `takes(config)`, on a stage that reads columns the recipe names, says of which types they
    may be (see `factory.core.columns`); a column it does not name may be of any.
    """

    name: str
    kind: str
    version: int
    config: type[Config]
    make: Callable[..., Any]
    reads: tuple[str, ...] | Callable[[Any], tuple[str, ...]]
    writes: Columns | Callable[[Any], Columns]
    train: "Training | None" = None
    fit: Callable[[Any, pa.Table], dict[str, Any]] | None = None
    files: Callable[[Any], tuple[str, ...]] | None = None
    packages: Callable[[Any], tuple[str, ...]] | None = None
    links: str = ""
    paths: Callable[[Any], tuple[str, ...]] | None = None
    join_settings: tuple[str, ...] = ()
    doc: str = ""
    check: Callable[[Any, Files], Iterable[str]] | None = None
    takes: Callable[[Any], Iterable[tuple[str, Refusal]]] | None = None

    def reads_for(self, config: Config) -> tuple[str, ...]:
        return self.reads(config) if callable(self.reads) else self.reads

    def takes_for(self, config: Config) -> tuple[tuple[str, Refusal], ...]:
        return tuple(self.takes(config)) if self.takes is not None else ()

    def packages_for(self, config: Config) -> dict[str, str | None]:
        """The installed versions of the libraries that decide the output; None for one that is not installed."""
        return {name: installed(name) for name in (self.packages(config) if self.packages is not None else ())}

    def files_for(self, config: Config) -> tuple[str, ...]:
        return self.files(config) if self.files is not None else ()

    def paths_for(self, config: Config) -> tuple[str, ...]:
        return self.paths(config) if self.paths is not None else ()

    def writes_for(self, config: Config) -> dict[str, pa.DataType]:
        return dict(self.writes(config) if callable(self.writes) else self.writes)


@dataclass(frozen=True)
class Sample:
    """Documents a training wants: from `source` (a label of the recipe), or from files at `uri`.

    `documents` bounds how many, chosen by hash(seed, doc_id), so that a larger sample contains the smaller one. `columns` are
    text columns of the documents, or keys of the records: `fit` gets the first as {role: values} and each other one, row by row
    beside it, as {"role.column": values}; "" stands for null there, and a row without the first is left out.
    """

    role: str
    documents: int
    source: str | None = None
    uri: str | None = None
    columns: tuple[str, ...] = ("text",)


@dataclass(frozen=True)
class Training:
    """How a stage's model is made.

    `samples(config)` says which documents it learns from; `fit(config, texts, directory, seed)` gets {role: list of texts},
    writes the model into `directory` and returns held-out metrics as plain numbers. `file` is the model's file name.
    Where the settings name a ready model, `ready(config)` gives its path or URL and its sha256 (None: not pinned).
    """

    file: str
    samples: Callable[[Any], Iterable[Sample]]
    fit: Callable[[Any, Mapping[str, list[str]], str, int], dict[str, Any]]
    ready: Callable[[Any], tuple[str, str | None] | None] = lambda config: None
    version: int = 1


@dataclass(frozen=True)
class InputFile:
    """A file a source may read: `name` is its path below the snapshot, `identity` pins its content.

    `facts` is what was known of it when it was found and goes into rows (a JSON object; part of `identity`). `modified` is
    when a local file last changed (nanoseconds), as of the look that gave its identity; it says nothing of the content.
    """

    uri: str
    name: str
    size: int
    identity: str
    facts: str = ""
    modified: int = 0


@dataclass(frozen=True)
class InputPart:
    """A byte range of an input file that one task reads: records that *begin* in [start, stop)."""

    file: InputFile
    start: int
    stop: int

    @property
    def identity(self) -> str:
        return f"{self.file.identity}-{self.start}-{self.stop}"


class Companions(Protocol):
    """The files of a source and snapshot, for records that refer to records of another file.

    A part whose reader called `files` is made again when files come or go; a reader that did not need to know stays pure
    in its own file.
    """

    def files(self) -> Sequence[InputFile]:
        """All files, sorted by name."""

    def open(self, file: InputFile) -> BinaryIO: ...

    def remembered(self, file: InputFile, name: str, make: Callable[[], bytes]) -> bytes:
        """What `make` gives for this file: made once and kept under this name; it must follow from the file alone."""


Pin = Callable[[str, str], InputFile]


@dataclass(frozen=True)
class Source:
    """What a source stage's factory returns.

    `split(file, part_bytes)` cuts a file into ranges without reading it through; `read(stream, part)` yields RAW batches
    (columns `doc_id`, `source`, `snapshot` may be left out: the documents step fills them from `key`), where each batch
    has the additional column `key`, the record's identity within its file or source. Where the files are not simply those
    a path or glob names, `find(uri, pin)` gives each with the names its snapshot may be called by; `pin(place, name)`
    looks at one file. `read_among`, where there is one, is what `read` is with the other files of the source at hand.
    """

    split: Callable[[InputFile, int], list[InputPart]]
    read: Callable[[BinaryIO, InputPart], Iterator[pa.RecordBatch]]
    find: Callable[[str, Pin], Iterator[tuple[InputFile, Mapping[str, str]]]] | None = None
    read_among: Callable[[BinaryIO, InputPart, Companions], Iterator[pa.RecordBatch]] | None = None
