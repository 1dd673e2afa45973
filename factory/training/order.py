"""The training order: which tokens every step of a run reads, as a pure function of the step number.

In: a token file, the columns of its index, settings and a seed. Out: one `Batch` for a step and a rank. The same step gives
the same batch to every run, in any process, with any number of workers, after any resume; the ranks of one step share its
sequences out, rank r of W takes those at positions s ≡ r (mod W). So the state of a loader is the step number, and
`digest`, which covers all that decides the order, tells two orders apart.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from factory.core.fingerprint import digest_bytes, fingerprint
from factory.core.packing import Integers, Reading
from factory.storage.tokens import TokenFile
from factory.training.batch import Batch
from factory.training.layout import Layout, Packed, order_columns, steps_of, too_small
from factory.training.loader import TokenStream
from factory.training.phases import Phase, phase_steps, planned_steps
from factory.training.scales import Scale
from factory.training.sequences import Place, SequenceTable

__all__ = [
    "Batch",
    "Order",
    "Place",
    "PhasedOrder",
    "StreamOrder",
    "TableOrder",
    "open_order",
    "order_columns",
]


class Order(Protocol):
    """`tokens` are the inputs of the whole run, padding and metadata included: steps times the tokens of a step."""

    @property
    def steps(self) -> int: ...

    @property
    def tokens(self) -> int: ...

    @property
    def digest(self) -> str: ...

    def batch(self, step: int, *, rank: int = 0, world: int = 1) -> Batch: ...


class StreamOrder:
    """Documents one after the other, cut every `context` tokens: everything attends to everything, all is predicted."""

    def __init__(self, stream: TokenStream, *, batch: int, steps: int) -> None:
        if steps * batch > len(stream):
            raise too_small(steps * batch * stream.context, stream.tokens, len(stream), stream.context, steps * batch)
        self.stream, self.rows, self.steps = stream, batch, steps

    @property
    def tokens(self) -> int:
        return self.steps * self.rows * self.stream.context

    @property
    def digest(self) -> str:
        settings = {"batch": self.rows, "steps": self.steps, "context": self.stream.context, "seed": self.stream.seed}
        return fingerprint({**settings, "stream": self.stream.digest})

    def batch(self, step: int, *, rank: int = 0, world: int = 1) -> Batch:
        check_step(step, self.steps)
        return Batch(self.stream.batch(step * self.rows, self.rows, rank=rank, world=world))

    def documents_at(self, step: int) -> Integers:
        """The documents (numbers in the token file) that a step reads, each once, ascending."""
        check_step(step, self.steps)
        return np.unique(self.inputs(step, step + 1)[0])

    def locate(self, offset: int) -> Place | None:
        """What input number `offset` of the run is, counted step by step and row by row; None where it is padding."""
        check_offset(offset, self.tokens)
        position, column = divmod(offset, self.stream.context)
        return Place(*self.stream.place(self.stream.span(position)[0] + column))

    def inputs(self, first: int, stop: int) -> tuple[Integers, Integers]:
        """(documents, tokens): what the steps first..stop-1 read, piece by piece; metadata counts for its document."""
        return self.stream.inputs(np.arange(first * self.rows, stop * self.rows))


class TableOrder:
    """Sequences of a packer, read as its `Reading` says."""

    def __init__(self, table: SequenceTable, reading: Reading, *, step_tokens: int) -> None:
        self.table, self.reading, self.step_tokens = table, reading, step_tokens
        self.steps = len(reading)

    @property
    def tokens(self) -> int:
        return self.steps * self.step_tokens

    @property
    def digest(self) -> str:
        arrays = (self.reading.sequences, self.reading.starts)
        read = digest_bytes(b"".join(array.astype("<i8").tobytes() for array in arrays))
        return fingerprint({"table": self.table.digest, "reading": read, "step_tokens": self.step_tokens})

    def batch(self, step: int, *, rank: int = 0, world: int = 1) -> Batch:
        numbers = self._numbers(step)
        size = self.step_tokens // len(numbers)
        return self.table.read(numbers[np.arange(len(numbers)) % world == rank], size)

    def documents_at(self, step: int) -> Integers:
        return self.table.documents_of(self._numbers(step))

    def locate(self, offset: int) -> Place | None:
        check_offset(offset, self.tokens)
        step, within = divmod(offset, self.step_tokens)
        numbers = self._numbers(step)
        row, column = divmod(within, self.step_tokens // len(numbers))
        return self.table.place(int(numbers[row]), column)

    def inputs(self, first: int, stop: int) -> tuple[Integers, Integers]:
        return self.table.inputs_of(self.reading.sequences[self.reading.starts[first] : self.reading.starts[stop]])

    def _numbers(self, step: int) -> Integers:
        check_step(step, self.steps)
        return self.reading.sequences[self.reading.starts[step] : self.reading.starts[step + 1]]


class PhasedOrder:
    """Orders one after the other; each has the steps of its phase."""

    def __init__(self, phases: Sequence[tuple[Phase, StreamOrder | TableOrder]]) -> None:
        self.phases = tuple(phases)
        self._ends = np.cumsum([order.steps for _, order in self.phases])

    @property
    def steps(self) -> int:
        return int(self._ends[-1])

    @property
    def tokens(self) -> int:
        return sum(order.tokens for _, order in self.phases)

    @property
    def digest(self) -> str:
        return fingerprint({"phases": [[phase.conditioned, order.digest] for phase, order in self.phases]})

    def batch(self, step: int, *, rank: int = 0, world: int = 1) -> Batch:
        order, own = self._at(step)
        return order.batch(own, rank=rank, world=world)

    def documents_at(self, step: int) -> Integers:
        order, own = self._at(step)
        return order.documents_at(own)

    def locate(self, offset: int) -> Place | None:
        check_offset(offset, self.tokens)
        step_tokens = self.tokens // self.steps
        order, own = self._at(offset // step_tokens)
        return order.locate(own * step_tokens + offset % step_tokens)

    def inputs(self, first: int, stop: int) -> tuple[Integers, Integers]:
        found = []
        for (_, order), end in zip(self.phases, self._ends.tolist(), strict=True):
            begin = end - order.steps
            if max(first, begin) < min(stop, end):
                found.append(order.inputs(max(first, begin) - begin, min(stop, end) - begin))
        empty = np.empty(0, dtype=np.int64)
        return (
            np.concatenate([*(documents for documents, _ in found), empty]),
            np.concatenate([*(tokens for _, tokens in found), empty]),
        )

    def _at(self, step: int) -> tuple[StreamOrder | TableOrder, int]:
        check_step(step, self.steps)
        number = int(np.searchsorted(self._ends, step, side="right"))
        order = self.phases[number][1]
        return order, step - int(self._ends[number]) + order.steps


AnyOrder = StreamOrder | TableOrder | PhasedOrder


def open_order(
    tokens: str | Path, index: pa.Table, spec: Mapping[str, Any], *, scale: Scale, seed: int, total_tokens: int
) -> AnyOrder:
    """The order of a run over the token file at this prefix.

    `index` has the file's documents, with the `order_columns` of the plan. `spec` is plain: `packing` (stage and
    settings), `phases` and `conditioning` as the recipe has them, and `copies`, the seed of hashes by whose order copies
    of documents are read (see `TokenStream`), and `bos`, whether documents begin with one; any may be absent.
    `factory.recipes.steps.tokens.read_index` reads the table. Steps are total_tokens // step_tokens, or less where
    padding, dropping or cutting leave fewer; where there are too few tokens to begin with, that is refused.
    """
    file = TokenFile(tokens)
    layout = Layout(file, index, spec, scale, seed)
    asked = total_tokens // scale.step_tokens
    shares = [phase.share for phase in layout.phases]
    wanted = planned_steps(layout.phases, asked)
    sources = [layout.phase(number, steps) for number, steps in enumerate(wanted)]
    if len(sources) == 1 and isinstance(sources[0], TokenStream):
        return StreamOrder(sources[0], batch=scale.batch, steps=asked)
    for phase, source, steps in zip(layout.phases, sources, wanted, strict=True):
        layout.check(phase, source, steps)
    room = [steps_of(source, scale) for source in sources]
    steps = asked
    while steps and any(own > most for own, most in zip(phase_steps(shares, steps), room, strict=True)):
        steps -= 1
    orders = []
    for number, own in enumerate(phase_steps(shares, steps)):
        source = sources[number] if own == wanted[number] else layout.phase(number, own)
        orders.append(_order_of(source, own, scale))
    return orders[0] if len(orders) == 1 else PhasedOrder(list(zip(layout.phases, orders, strict=True)))


def summary(order: AnyOrder) -> dict[str, Any]:
    """What a run reads, counted from its order: padding, metadata, tokens of the text that are left out, phase by phase."""
    if isinstance(order, PhasedOrder):
        parts = [
            {"phase": phase.label, "conditioned": phase.conditioned, **summary(own)} for phase, own in order.phases
        ]
        return {"steps": order.steps, "tokens": order.tokens, "phases": parts}
    found: dict[str, Any] = {"steps": order.steps, "tokens": order.tokens}
    if isinstance(order, TableOrder):
        read = int(order.inputs(0, order.steps)[1].sum()) if order.steps else 0
        found |= {"padding": order.tokens - read, **order.table.counts(order.reading.sequences)}
    return found


def check_step(step: int, steps: int) -> None:
    if not 0 <= step < steps:
        raise IndexError(f"step {step} of {steps}")


def check_offset(offset: int, tokens: int) -> None:
    if not 0 <= offset < tokens:
        raise IndexError(f"token {offset} of {tokens}")


def _order_of(source: TokenStream | Packed, steps: int, scale: Scale) -> StreamOrder | TableOrder:
    if isinstance(source, TokenStream):
        return StreamOrder(source, batch=scale.batch, steps=steps)
    return TableOrder(source.table, source.reading, step_tokens=scale.step_tokens)
