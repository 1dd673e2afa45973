"""Running a batch function so that one bad row costs that row and nothing else."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from factory.core.stage import BatchFunction
from factory.execution.tasks import Context

CAUSES_KEPT = 5

# What stands in for a row that could not be done: the row as a batch of one, its number, and why.
OnFailure = Callable[[pa.RecordBatch, int, str], pa.RecordBatch]


@dataclass
class Failures:
    """Rows a stage could not do, counted, with the first causes."""

    rows: list[int] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)

    def add(self, row: int, cause: str) -> None:
        self.rows.append(row)
        if len(self.causes) < CAUSES_KEPT:
            self.causes.append(cause)


def apply(
    function: BatchFunction,
    batch: pa.RecordBatch,
    first_row: int,
    context: Context,
    on_failure: OnFailure,
) -> pa.RecordBatch:
    """The function's output for a batch. Where it raises, or a row is poison, that row's output is `on_failure`'s."""
    rows = range(first_row, first_row + batch.num_rows)
    if not context.careful and not any(row in context.poison for row in rows):
        try:
            return _checked(function(batch), batch)
        except Exception:  # some row of the batch: found below
            pass
    made = [_one(function, batch.slice(index, 1), row, context, on_failure) for index, row in enumerate(rows)]
    return pa.Table.from_batches(made).combine_chunks().to_batches()[0] if made else function(batch)


def _one(
    function: BatchFunction,
    row: pa.RecordBatch,
    number: int,
    context: Context,
    on_failure: OnFailure,
) -> pa.RecordBatch:
    if number in context.poison:
        return on_failure(row, number, f"crashed: {context.poison[number]}")
    if context.careful:
        context.at(number)
    try:
        return _checked(function(row), row)
    except Exception as error:
        return on_failure(row, number, f"crashed: {type(error).__name__}: {str(error)[:200]}")


def _checked(made: pa.RecordBatch, batch: pa.RecordBatch) -> pa.RecordBatch:
    if made.num_rows != batch.num_rows:
        raise ValueError(f"a stage returned {made.num_rows} rows for {batch.num_rows}")
    return made


def null_rows(columns: Mapping[str, pa.DataType], failures: Failures, offset: int = 0) -> OnFailure:
    """An `on_failure` that leaves every column null and notes the row, whose number in the part is `number - offset`."""

    def nulls(row: pa.RecordBatch, number: int, cause: str) -> pa.RecordBatch:
        failures.add(number - offset, cause)
        return pa.RecordBatch.from_arrays(
            [pa.nulls(1, kind) for kind in columns.values()], schema=pa.schema(list(columns.items()))
        )

    return nulls


def batches(table: pa.Table, rows: int, size: int = 8 << 20) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The table in batches of at most `rows` rows and about `size` bytes, with the number of their first row.

    An empty table gives one empty batch. What a stage makes of a row does not depend on the batch it lies in.
    """
    first = 0
    for batch in table.combine_chunks().to_batches(max_chunksize=rows):
        step = batch.num_rows if batch.nbytes <= size else max(1, batch.num_rows * size // batch.nbytes)
        for start in range(0, batch.num_rows, step):
            piece = batch.slice(start, step)
            yield first, piece
            first += piece.num_rows
    if not table.num_rows:
        yield 0, pa.RecordBatch.from_arrays([pa.array([], kind) for kind in table.schema.types], schema=table.schema)
