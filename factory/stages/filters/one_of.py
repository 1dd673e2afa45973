"""Keeps documents whose value is one of those listed: a language, a licence, a source, a flag."""

from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr

from factory.core.columns import Refusal, is_text
from factory.core.config import Config
from factory.core.errors import FactoryError
from factory.core.registry import register
from factory.core.stage import BatchFunction

KEEP = {"keep": pa.bool_()}

Value = StrictStr | StrictBool | StrictInt | StrictFloat


class OneOf(Config):
    column: str
    values: Annotated[tuple[Value, ...], Field(min_length=1)]
    missing: Literal["drop", "keep"] = "drop"


def takes(config: OneOf) -> list[tuple[str, Refusal]]:
    return [(config.column, _refusal(config))]


def _refusal(config: OneOf) -> Refusal:
    def refusal(name: str, kind: pa.DataType) -> str:
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        for value in config.values:
            if not _fits(value, kind):
                # YAML reads a bare no as false: the language code of Norwegian has to be quoted.
                quoted = " In YAML, quote no, yes, on and off." if isinstance(value, bool) and is_text(kind) else ""
                return f"one_of: column '{name}' holds {kind}, and {value!r} is none.{quoted}"
        return ""

    return refusal


@register("one_of", version=1, reads=lambda config: (config.column,), writes=KEEP, config=OneOf, takes=takes)
def one_of(config: OneOf) -> BatchFunction:
    def judge(batch: pa.RecordBatch) -> pa.RecordBatch:
        column = batch.column(config.column)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        keep = pc.is_in(column, value_set=_value_set(config, column.type))
        missing = pa.scalar(config.missing == "keep")
        return pa.record_batch([pc.if_else(column.is_valid(), keep, missing)], schema=pa.schema(KEEP))

    return judge


def _value_set(config: OneOf, kind: pa.DataType) -> pa.Array:
    if refused := _refusal(config)(config.column, kind):
        raise FactoryError(refused)
    return pa.array(config.values, type=kind)


def _fits(value: Any, kind: pa.DataType) -> bool:
    if pa.types.is_boolean(kind):
        return isinstance(value, bool)
    if is_text(kind):
        return isinstance(value, str)
    if isinstance(value, bool):
        return False
    if pa.types.is_floating(kind):
        return isinstance(value, int | float)
    return isinstance(value, int) and bool(pa.types.is_integer(kind)) and _in_limits(value, kind)


def _in_limits(value: int, kind: pa.DataType) -> bool:
    limits = np.iinfo(kind.to_pandas_dtype())
    return int(limits.min) <= value <= int(limits.max)
