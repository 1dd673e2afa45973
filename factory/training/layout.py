"""From a token file, its index and a plan to the sequences of every phase, and the order in which they are read.

A phase goes on with the copies of documents at which the phases before it left off, so that what was not read comes first.
Documents that are only concatenated stay a stream; everything else becomes a table of sequences.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from factory.core.errors import FactoryError
from factory.core.fingerprint import hash_ids
from factory.core.mixture import copy_hashes, numbered_copies
from factory.core.packing import Integers, Packer, PackerSettings, Pieces, Reading, join
from factory.core.registry import find_stage
from factory.core.seeds import seed_for
from factory.storage.tokens import TokenFile
from factory.training.loader import TokenStream, permute
from factory.training.phases import Phase, plan_phases
from factory.training.scales import Scale
from factory.training.sequences import Entries, Prefixes, SequenceTable


@dataclass(frozen=True)
class Packed:
    """Sequences of a packer and how they are read."""

    table: SequenceTable
    reading: Reading


def order_columns(spec: Mapping[str, Any]) -> list[str]:
    """The columns of a token index that `open_order` reads for this plan."""
    packer, settings = packer_of(spec)
    phases = plan_phases(spec)
    columns = ["repeats"]
    columns += ["phases"] if len(phases) > 1 else []
    columns += ["doc_id"] if spec.get("copies") is not None else []
    columns += ["domain"] if settings.mix == "stratified" else []
    columns += ["place"] if packer.arrange is not None else []
    columns += ["metadata"] if any(phase.conditioned for phase in phases) else []
    return columns


def packer_of(spec: Mapping[str, Any]) -> tuple[Packer, PackerSettings]:
    """The packer a plan names and its settings; `concatenate` where it names none."""
    item = spec.get("packing") or {"stage": "concatenate", "settings": {}}
    stage = find_stage("packer", item["stage"])
    settings = stage.config(**item["settings"])
    assert isinstance(settings, PackerSettings)
    packer: Packer = stage.make(settings)
    return packer, settings


class Layout:
    """The phases of a plan over one token file."""

    def __init__(self, file: TokenFile, index: pa.Table, spec: Mapping[str, Any], scale: Scale, seed: int) -> None:
        if index.num_rows != len(file):
            raise FactoryError(f"{index.num_rows:,} repeat counts for the {len(file):,} documents of {file.prefix}.")
        self.file, self.index, self.scale, self.seed = file, index, scale, seed
        self.phases = plan_phases(spec)
        self.packer, self.settings = packer_of(spec)
        packing = spec.get("packing") or {"stage": "concatenate"}
        self.plain = packing["stage"] == "concatenate" and self.settings == PackerSettings()
        copies = spec.get("copies")
        self.hashes = None if copies is None else hash_ids(index.column("doc_id").combine_chunks(), copies)
        self.behind = 1 if spec.get("bos") else 0
        self.counts = self._counts()

    def phase(self, number: int, steps: int) -> TokenStream | Packed:
        seed = self.seed if number == 0 else seed_for(self.seed, f"phase {number}")
        before, counts = self.counts[:number].sum(axis=0), self.counts[number]
        phase = self.phases[number]
        if self.plain and not phase.conditioned:
            return TokenStream(
                self.file, counts, context=self.scale.context, seed=seed, hashes=self.hashes, earlier=before
            )
        entries = self._entries(counts, before)
        prefixes = self._prefixes() if phase.conditioned else None
        lengths = self.file.lengths[entries.documents]
        if prefixes is not None:
            lengths = lengths + prefixes.lengths(entries.documents)
        if self.settings.mix == "stratified":
            pieces, reading = self._stratified(entries, lengths, steps, seed)
        else:
            pieces = self.packer.pack(lengths, self.scale.context, seed_for(seed, "packing"))
            read = self.packer.read or shuffled
            reading = read(pieces.sizes, self.scale.step_tokens, steps, seed)
        masked = self.settings.document_mask or self.packer.isolated
        table = SequenceTable(self.file, entries, pieces, masked=masked, prefixes=prefixes)
        return Packed(table, reading)

    def check(self, phase: Phase, source: TokenStream | Packed, steps: int) -> None:
        """Raise FactoryError where a phase has too few tokens, however they are packed."""
        scale = self.scale
        if isinstance(source, TokenStream):
            there, sequences = source.tokens, len(source)
        else:
            there, sequences = source.table.entry_tokens, len(source.table)
        asked = steps * scale.step_tokens
        # A phase's share is rounded to a step, and its last sequence needs a target of its own.
        if there + scale.step_tokens + scale.context < asked or not steps_of(source, scale):
            where = f"phase '{phase.label}': " if len(self.phases) > 1 else ""
            raise too_small(asked, there, sequences, scale.context, asked // scale.context, where=where)

    def _counts(self) -> npt.NDArray[np.int64]:
        """Copies of each document, a row for each phase."""
        if len(self.phases) == 1:
            return np.asarray(self.index.column("repeats").to_numpy(), dtype=np.int64)[None]
        lists = self.index.column("phases").combine_chunks()
        values = lists.flatten().to_numpy().astype(np.int64)
        if len(values) != len(lists) * len(self.phases):
            raise FactoryError(
                f"the token index counts repeats for {len(values) / max(1, len(lists)):g} phases, and the plan has "
                f"{len(self.phases)}. Make the tokens again with this plan."
            )
        return np.asarray(values.reshape(-1, len(self.phases)).T)

    def _entries(self, counts: Integers, before: Integers) -> Entries:
        documents, copies = numbered_copies(counts)
        copies = copies + before[documents]
        if self.packer.arrange is not None:
            places = self.index.column("place").to_numpy()[documents]
            order = np.lexsort((places, copies))
        else:
            key = copies if self.hashes is None else copy_hashes(self.hashes[documents], copies)
            order = np.argsort(key, kind="stable")
        return Entries(documents[order], copies[order])

    def _prefixes(self) -> Prefixes:
        lists = self.index.column("metadata").combine_chunks()
        lengths = lists.value_lengths().fill_null(0).to_numpy().astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Prefixes(lists.drop_null().flatten().to_numpy().astype(np.int64), starts, self.behind)

    def _stratified(self, entries: Entries, lengths: Integers, steps: int, seed: int) -> tuple[Pieces, Reading]:
        from factory.kernels.interleave import interleave

        names = np.array(self.index.column("domain").to_pylist(), dtype=object)[entries.documents]
        domains = sorted(set(names.tolist()))
        parts: list[tuple[Pieces, Integers]] = []
        queues: list[Integers] = []
        for domain in domains:
            own = np.flatnonzero(names == domain)
            pieces = self.packer.pack(lengths[own], self.scale.context, seed_for(seed, f"packing {domain}"))
            if not len(pieces):
                raise FactoryError(
                    f"packing: '{domain}' has {int(lengths[own].sum()):,} tokens, less than a sequence of "
                    f"{self.scale.context:,}, and 'mix: stratified' reads whole sequences of each domain. "
                    "Use 'mix: shuffled', or leave the domain out."
                )
            first = sum(len(made) for made, _ in parts)
            queues.append(first + permute(np.arange(len(pieces)), len(pieces), seed_for(seed, f"order {domain}")))
            parts.append((pieces, own))
        sizes = np.array([len(queue) for queue in queues], dtype=np.int64)
        rows = self.scale.batch
        steps = min(steps, int(sizes.sum()) // rows)
        turns = interleave(sizes, steps * rows) if len(sizes) else np.empty(0, dtype=np.int64)
        order = np.empty(len(turns), dtype=np.int64)
        for number, queue in enumerate(queues):
            mine = turns == number
            order[mine] = queue[: int(mine.sum())]
        return join(parts), Reading(order, np.arange(steps + 1, dtype=np.int64) * rows)


def shuffled(sizes: Integers, step_tokens: int, steps: int, seed: int) -> Reading:
    """Sequences of one size, permuted."""
    rows = step_tokens // int(sizes[0]) if len(sizes) else 1
    steps = min(steps, len(sizes) // rows)
    positions = np.arange(steps * rows)
    order = permute(positions, len(sizes), seed_for(seed, "order")) if steps else positions
    return Reading(order, np.arange(steps + 1, dtype=np.int64) * rows)


def steps_of(source: TokenStream | Packed, scale: Scale) -> int:
    """How many steps there are sequences for."""
    return len(source) // scale.batch if isinstance(source, TokenStream) else len(source.reading)


def too_small(asked: int, there: int, sequences: int, context: int, needed: int, *, where: str = "") -> FactoryError:
    return FactoryError(
        f"proxy: {where}{asked:,} tokens asked, and the mixture gives {there:,} in {sequences:,} sequences of "
        f"{context} ({needed:,} needed). Lower the proxy's tokens, or raise the mixture's."
    )
