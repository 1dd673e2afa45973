"""Header blocks of WARC records and HTTP answers: any line ending, folded lines, bytes that are not UTF-8.

A name means its first value; names are asked for in lower case. The line in front (a version, a status) is no header.
"""


class Headers:
    """The headers of a block, looked up where they stand: a record has dozens, and few are asked for."""

    __slots__ = ("_block", "_lower", "_parsed")

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._lower = lower = block.lower()
        odd = b"\n " in lower or b"\n\t" in lower or b" :" in lower or b"\t:" in lower or not lower.isascii()
        self._parsed = read_headers(block) if odd else None

    def get(self, name: str, default: str = "") -> str:
        """The first value of a header, given by its name in lower case."""
        if self._parsed is not None:
            return self._parsed.get(name, default)
        at = self._lower.find(f"\n{name}:".encode())
        if at < 0:
            return default
        start = at + len(name) + 2
        stop = self._block.find(b"\n", start)
        return self._block[start : stop if stop >= 0 else None].decode().strip()


def read_headers(block: bytes) -> dict[str, str]:
    """Names in lower case and their first values; tolerant of any line ending, folding and bytes that are not UTF-8."""
    try:
        text = block.decode()
    except UnicodeDecodeError:
        text = block.decode("latin-1")
    found: dict[str, str] = {}
    if "\n " not in text and "\n\t" not in text:
        for line in text.split("\n")[1:]:
            name, separator, value = line.partition(":")
            if separator:
                name = name.strip().lower()
                if name not in found:
                    found[name] = value.strip()
        return found
    last = ""
    for line in text.split("\n")[1:]:
        name, separator, value = line.partition(":")
        if line[:1] in (" ", "\t") and last:
            found[last] = f"{found[last]} {line.strip()}".strip()
        elif separator:
            name = name.strip().lower()
            last = name if name not in found else ""
            found.setdefault(name, value.strip())
    return found
