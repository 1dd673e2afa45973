"""Two things loops over float32 need that compilers do not turn into vectors by themselves: e^x, and the largest of a row."""

from typing import Any

import numpy as np

from factory.kernels.compiled import float_inner

_LOG2_E, _LN2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
_LEAST, _MOST = np.float32(-87.0), np.float32(88.0)  # beyond, e^x is no normal float32
_HALF, _ONE = np.float32(0.5), np.float32(1.0)
_C3, _C4, _C5, _C6 = np.float32(1 / 6), np.float32(1 / 24), np.float32(1 / 120), np.float32(1 / 720)
_SIGN = np.int32(0x7FFFFFFF)
_BIAS, _SHIFT = np.int32(127), np.int32(23)


@float_inner
def exp(x: Any) -> Any:
    """e^x to 5e-7 of its value between e^-87 and e^88, which stand for all beyond; NaN stays NaN."""
    x = _LEAST if x < _LEAST else x
    x = _MOST if x > _MOST else x
    scaled = x * _LOG2_E
    whole = np.int32(scaled + (_HALF if scaled > 0 else -_HALF))
    rest = x - np.float32(whole) * _LN2
    power = _ONE + rest * (_ONE + rest * (_HALF + rest * (_C3 + rest * (_C4 + rest * (_C5 + rest * _C6)))))
    return power * np.int32((whole + _BIAS) << _SHIFT).view(np.float32)


@float_inner
def largest(row: Any) -> Any:
    """A NaN among them may be passed over: e^x, for which the largest is taken away, still tells it."""
    # As integers in the order of the floats: compilers make vectors of their maximum, and not of floats' with its NaN.
    bits = row.view(np.int32)
    most = np.int32(-0x80000000)
    for j in range(len(bits)):
        own = bits[j]
        most = max(most, own ^ ((own >> 31) & _SIGN))
    return np.int32(most ^ ((most >> 31) & _SIGN)).view(np.float32)
