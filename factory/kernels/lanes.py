"""Instructions that look at many bytes at once, for kernels: numba has no names for them.

A position and the bytes after it (`LANES`, or 8 for `load_word`) must lie in the array; nothing checks that. Bit i of a
mask stands for byte i from the position. The compiler turns each into the widest instructions the machine has.
"""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

LANES = 32


@intrinsic  # type: ignore[untyped-decorator]
def load_word(typing_context: Any, data: Any, at: Any) -> Any:
    """Eight bytes as one number, the first byte lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _load(context, builder, signature, arguments, ir.IntType(64))

    return types.uint64(data, at), generate


@intrinsic  # type: ignore[untyped-decorator]
def equal_bytes(typing_context: Any, data: Any, at: Any, byte: Any) -> Any:
    """Which bytes are `byte`, a number of 8 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = _lanes(context, builder, signature, arguments)
        return _mask(builder, builder.icmp_unsigned("==", lanes, _spread(builder, arguments[2])))

    return types.uint32(data, at, types.uint8), generate


@intrinsic  # type: ignore[untyped-decorator]
def lesser_bytes(typing_context: Any, data: Any, at: Any, byte: Any) -> Any:
    """Which bytes are less than `byte`, a number of 8 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = _lanes(context, builder, signature, arguments)
        return _mask(builder, builder.icmp_unsigned("<", lanes, _spread(builder, arguments[2])))

    return types.uint32(data, at, types.uint8), generate


@intrinsic  # type: ignore[untyped-decorator]
def first_bytes(typing_context: Any, data: Any, at: Any) -> Any:
    """Which bytes begin a character of UTF-8: all but 0x80 to 0xBF."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = _lanes(context, builder, signature, arguments)
        return _mask(builder, builder.icmp_signed(">", lanes, _every(0xBF)))

    return types.uint32(data, at), generate


@intrinsic  # type: ignore[untyped-decorator]
def letters_and_digits(typing_context: Any, data: Any, at: Any) -> Any:
    """Which bytes are letters or digits of ASCII, in the lower half; which are letters, in the upper half."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = _lanes(context, builder, signature, arguments)
        lower = builder.or_(lanes, _every(0x20))
        letters = builder.icmp_unsigned("<", builder.sub(lower, _every(ord("a"))), _every(26))
        digits = builder.icmp_unsigned("<", builder.sub(lanes, _every(ord("0"))), _every(10))
        low = builder.zext(_mask(builder, builder.or_(letters, digits)), ir.IntType(64))
        high = builder.zext(_mask(builder, letters), ir.IntType(64))
        return builder.or_(low, builder.shl(high, ir.Constant(ir.IntType(64), LANES)))

    return types.uint64(data, at), generate


@intrinsic  # type: ignore[untyped-decorator]
def fold_letters(typing_context: Any, data: Any, at: Any, room: Any, to: Any) -> Any:
    """Which bytes are digits or not of ASCII; into `room` at `to` go letters in lower case, and blanks for all others."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = _lanes(context, builder, signature, arguments)
        lower = builder.or_(lanes, _every(0x20))
        letters = builder.icmp_unsigned("<", builder.sub(lower, _every(ord("a"))), _every(26))
        digits = builder.icmp_unsigned("<", builder.sub(lanes, _every(ord("0"))), _every(10))
        array = context.make_array(signature.args[2])(context, builder, arguments[2])
        address = builder.gep(array.data, [arguments[3]], source_etype=ir.IntType(8))
        folded = builder.select(letters, lower, _every(0x20))
        builder.store(folded, builder.bitcast(address, folded.type.as_pointer()), align=1)
        return _mask(builder, builder.or_(digits, builder.icmp_unsigned(">", lanes, _every(0x7F))))

    return types.uint32(data, at, room, to), generate


@intrinsic  # type: ignore[untyped-decorator]
def lowest_bit(typing_context: Any, mask: Any) -> Any:
    """The place of the lowest bit that is set; 64 if none is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def bits_set(typing_context: Any, mask: Any) -> Any:
    """How many bits are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


def _load(context: Any, builder: Any, signature: Any, arguments: Any, kind: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    address = builder.gep(array.data, [arguments[1]], source_etype=ir.IntType(8))
    return builder.load(builder.bitcast(address, kind.as_pointer()), align=1, typ=kind)


def _lanes(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return _load(context, builder, signature, arguments, ir.VectorType(ir.IntType(8), LANES))


def _every(value: int) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(8), LANES), [value] * LANES)


def _spread(builder: Any, byte: Any) -> Any:
    kind = ir.VectorType(ir.IntType(8), LANES)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), byte, ir.Constant(ir.IntType(32), 0))
    places = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), places)


def _mask(builder: Any, flags: Any) -> Any:
    return builder.bitcast(flags, ir.IntType(LANES))
