"""The types of columns that stages take: what is wrong with a column, in the words of who asked for it, or nothing."""

from collections.abc import Callable

import pyarrow as pa

from factory.core.schema import SPANS

# Why a column of this name and type is not taken: a sentence, empty where it is.
Refusal = Callable[[str, pa.DataType], str]


def is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_list_of_structs(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind)) and bool(pa.types.is_struct(kind.value_type))


def numbers_for(asked_by: str) -> Refusal:
    def refusal(name: str, kind: pa.DataType) -> str:
        if is_number(kind):
            return ""
        return f"{asked_by} compares numbers, and column '{name}' holds {kind}. For texts and flags use one_of."

    return refusal


def texts_for(asked_by: str) -> Refusal:
    def refusal(name: str, kind: pa.DataType) -> str:
        return "" if is_text(kind) else f"{asked_by} groups by a column of texts, and '{name}' holds {kind}."

    return refusal


def spans_for(asked_by: str) -> Refusal:
    def refusal(name: str, kind: pa.DataType) -> str:
        return "" if kind == SPANS else f"{asked_by} takes a column of spans, and '{name}' holds {kind}."

    return refusal
