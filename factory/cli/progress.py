"""Progress on standard error: a bar at a terminal, a plain line now and then anywhere else."""

import sys
import time
from typing import Any

from factory.reports.text import duration, size

PLAIN_EVERY = 5.0  # seconds between lines where there is no terminal
WORTH_A_LINE = 1.0  # what took less leaves no trace


class Bars:
    """Bars for a person at a terminal. What took over a second stays as a line."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._bar: Any = None
        self._task: Any = None
        self._label, self._total, self._unit, self._done = "", 0, "", 0
        self._started = 0.0

    def start(self, label: str, total: int, unit: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.finish()
        self._label, self._total, self._unit, self._done = label, total, unit, 0
        self._started = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=32),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task(label, total=max(1, total), speed="")
        self._bar.start()

    def advance(self, amount: int) -> None:
        self._done += amount
        if self._bar is not None:
            speed = _speed(self._done, time.monotonic() - self._started, self._unit)
            self._bar.update(self._task, advance=amount, speed=speed)

    def finish(self) -> None:
        if self._bar is None:
            return
        self._bar.stop()
        self._bar = None
        seconds = time.monotonic() - self._started
        if seconds >= WORTH_A_LINE:
            self._console.print(_summary(self._label, self._done, self._unit, seconds), markup=False)

    def note(self, line: str) -> None:
        (self._bar.console if self._bar is not None else self._console).print(line, markup=False)


class Lines:
    """Plain lines for logs and pipes."""

    def __init__(self) -> None:
        self._label, self._total, self._unit, self._done = "", 0, "", 0
        self._started = self._told = 0.0

    def start(self, label: str, total: int, unit: str) -> None:
        self._label, self._total, self._unit, self._done = label, total, unit, 0
        self._started = self._told = time.monotonic()

    def advance(self, amount: int) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._told >= PLAIN_EVERY:
            self._told = now
            percent = f"{self._done / self._total:4.0%}" if self._total else ""
            self.note(f"{self._label} {percent} {_speed(self._done, now - self._started, self._unit)}".rstrip())

    def finish(self) -> None:
        seconds = time.monotonic() - self._started
        if self._label and seconds >= WORTH_A_LINE:
            self.note(_summary(self._label, self._done, self._unit, seconds))
        self._label = ""

    def note(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def make_progress() -> Bars | Lines:
    """Bars where a person is watching."""
    return Bars() if sys.stderr.isatty() else Lines()


def _speed(done: int, seconds: float, unit: str) -> str:
    if seconds < 0.5 or done < seconds:
        return ""
    return f"{_amount(round(done / seconds), unit)}/s"


def _amount(number: int, unit: str) -> str:
    return size(number) if unit == "bytes" else f"{number:,} {unit}".rstrip()


def _summary(label: str, done: int, unit: str, seconds: float) -> str:
    return f"{label}: {_amount(done, unit)} in {duration(seconds)}"
