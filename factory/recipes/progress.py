"""How long work tells how far it is. The library only speaks; who listens decides what is shown."""

from typing import Protocol


class Progress(Protocol):
    """One bar at a time: `start`, any number of `advance`, `finish`. `note` is a line worth keeping."""

    def start(self, label: str, total: int, unit: str) -> None: ...

    def advance(self, amount: int) -> None: ...

    def finish(self) -> None: ...

    def note(self, line: str) -> None: ...


class Silent:
    """Shows nothing."""

    def start(self, label: str, total: int, unit: str) -> None:
        pass

    def advance(self, amount: int) -> None:
        pass

    def finish(self) -> None:
        pass

    def note(self, line: str) -> None:
        pass
