"""Which writing systems the letters of a text belong to, by the script property of Unicode over Arrow buffers.

Letters alone are counted: digits, signs, marks and white space are common to scripts. Python's tables have no script
property; the ranges are those of Scripts.txt (Unicode 16) for letters, with the names of ISO 15924.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_kernel
from factory.kernels.utf8 import decode_multibyte

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step

# What of a range is no letter is not counted.
_RANGES = """
Latn 41-5A 61-7A AA BA C0-2B8 2E0-2E4 1D00-1D25 1D2C-1D5C 1D62-1D65 1D6B-1D77 1D79-1DBE 1E00-1EFF 2071 207F 2090-209C
Latn 212A-212B 2132 214E 2160-2188 2C60-2C7F A722-A787 A78B-A7FF AB30-AB5A AB5C-AB64 FB00-FB06 FF21-FF3A FF41-FF5A
Latn 10780-107BA 1DF00-1DFFF
Grek 370-373 375-377 37A-37D 37F 384 386 388-3E1 3F0-3FF 1D26-1D2A 1F00-1FFE 2126 AB65
Cyrl 400-484 487-52F 1C80-1C8A 1D2B 1D78 2DE0-2DFF A640-A69F
Armn 531-589 FB13-FB17
Hebr 591-5F4 FB1D-FB4F
Arab 600-604 606-60B 60D-61A 61C-61E 620-63F 641-64A 656-6FF 750-77F 870-8FF FB50-FDFF FE70-FEFC 10E60-10E7E 1EE00-1EEFF
Syrc 700-74F 860-86A
Thaa 780-7B1
Nkoo 7C0-7FF
Samr 800-83E
Mand 840-85E
Deva 900-950 953-963 966-97F A8E0-A8FF
Beng 980-9FE
Guru A01-A76
Gujr A81-AFF
Orya B01-B77
Taml B82-BFA 11FC0-11FFF
Telu C00-C7F
Knda C80-CF3
Mlym D00-D7F
Sinh D81-DF4
Thai E01-E3A E40-E5B
Laoo E81-EDF
Tibt F00-FD4 FD9-FDA
Mymr 1000-109F A9E0-A9FE AA60-AA7F
Geor 10A0-10C5 10C7 10CD 10D0-10FA 10FC-10FF 1C90-1CBF 2D00-2D2D
Hang 1100-11FF 3131-318E A960-A97C AC00-D7A3 D7B0-D7FB FFA0-FFDC
Ethi 1200-139F 2D80-2DDE AB01-AB2E
Cher 13A0-13FD AB70-ABBF
Cans 1400-167F 18B0-18F5
Ogam 1680-169C
Runr 16A0-16EA 16EE-16F8
Khmr 1780-17F9 19E0-19FF
Mong 1800-1801 1804 1806-18AA
Limb 1900-194F
Tale 1950-1974
Talu 1980-19DF
Bugi 1A00-1A1F
Lana 1A20-1AAD
Bali 1B00-1B7F
Sund 1B80-1BBF
Batk 1BC0-1BFF
Lepc 1C00-1C4F
Olck 1C50-1C7F
Glag 2C00-2C5F
Copt 3E2-3EF 2C80-2CFF
Tfng 2D30-2D7F
Hani 2E80-2FD5 3005 3007 3021-3029 3038-303B 3400-4DBF 4E00-9FFF F900-FAD9 20000-323AF
Hira 3041-3096 309D-309F 1B001-1B11F
Kana 30A1-30FA 30FD-30FF 31F0-31FF 32D0-32FE FF66-FF6F FF71-FF9D
Bopo 2EA-2EB 3105-312F 31A0-31BF
Yiii A000-A4C6
Lisu A4D0-A4FF
Vaii A500-A62B
Bamu A6A0-A6F7
Sylo A800-A82C
Phag A840-A877
Saur A880-A8D9
Kali A900-A92D A92F
Rjng A930-A95F
Java A980-A9DF
Cham AA00-AA5F
Tavt AA80-AADF
Mtei AAE0-AAF6 ABC0-ABF9
Linb 10000-100FA
Goth 10330-1034A
Dsrt 10400-1044F
Osge 104B0-104FB
Phnx 10900-1091F
Brah 11000-1107F
Cakm 11100-11147
Xsux 12000-123FF 12400-12543
Egyp 13000-1345F
Adlm 1E900-1E95F
"""


@cache
def script_table() -> tuple[tuple[str, ...], Bytes]:
    """The names of the scripts, and the number of each code point's script: 0 for what is no letter, the last for letters
    of scripts without a name here."""
    import unicodedata

    names: list[str] = [""]
    table = np.zeros(0x110000, np.uint8)
    for line in _RANGES.split("\n"):
        name, *ranges = line.split() or [""]
        if name and name not in names:
            names.append(name)
        for item in ranges:
            first, last = (int(code, 16) for code in (item.split("-") * 2)[:2])
            table[first : last + 1] = names.index(name)
    names.append("Zzzz")
    for code in (*range(0x323B0), *range(0xE0000, 0xE0200)):
        category = unicodedata.category(chr(code))
        if category not in ("Lu", "Ll", "Lt", "Lm", "Lo", "Nl"):
            table[code] = 0
        elif not table[code]:
            # Modifier letters, mathematical letters and the sign of prolonged sounds belong to many scripts.
            table[code] = 0 if category == "Lm" or 0x1D400 <= code <= 0x1D7FF else len(names) - 1
    table[0x640] = 0  # the stroke that stretches an Arabic word
    table.flags.writeable = False
    return tuple(names), table


def count_letters(offsets: Integers, data: Bytes, valid: Flags) -> Integers:
    """A row per text, a column per script of `script_table`: its letters."""
    names, table = script_table()
    counts = np.zeros((valid.size, len(names)), np.int64)
    _count_letters(offsets, data, valid, table, names.index("Latn"), counts)
    counts[:, 0] = 0
    return counts


@bare_kernel
def _count_letters(offsets: Integers, data: Bytes, valid: Flags, table: Bytes, latin: Whole, counts: Integers) -> None:
    for text in range(valid.size):
        if not valid[text]:
            continue
        at, end = offsets[text], offsets[text + 1]
        ascii_letters = np.int64(0)
        while at < end:
            # ASCII in strides of a fixed length: the compiler counts the letters of many bytes side by side.
            stop = at + 32
            if stop <= end:
                high = np.uint8(0)
                letters = np.uint8(0)
                for place in range(np.uintp(at), np.uintp(stop)):
                    byte = data[place]
                    high |= byte
                    letters += np.uint8(np.uint8((byte | np.uint8(0x20)) - np.uint8(0x61)) < np.uint8(26))
                if high < 0x80:
                    ascii_letters += letters
                    at = stop
                    continue
            stop = min(stop, end)
            while at < stop:
                byte = data[np.uintp(at)]
                if byte < 0x80:
                    ascii_letters += np.uint8((byte | np.uint8(0x20)) - np.uint8(0x61)) < np.uint8(26)
                    at += 1
                else:
                    code, width = decode_multibyte(data, at, end)
                    counts[text, table[np.uintp(code)]] += 1
                    at += width
        counts[text, latin] += ascii_letters
