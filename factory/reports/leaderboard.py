"""A leaderboard for the terminal: what decides first, and of the rest as many columns as a line has room for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from factory.reports.terminal import STATES, table
from factory.reports.text import clean

GAP = 2  # between columns
# Places in the header, and how many columns there always are.
NAME, SCALE, SEEDS, VERDICT, DECIDING = 1, 2, 3, 6, 7
TITLE = "Leaderboard"


@dataclass(frozen=True)
class Leaderboard:
    """Experiments, best first, with intervals over seeds and verdicts against the base; what was left out, and why.

    A column that is the same in all rows is in the title, and those a line has no room for are named below; with `wide` all
    are columns.
    """

    notes: Mapping[str, Any]
    wide: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        board, header = self.notes["board"], list(self.notes["header"])
        rows = [_short(cells) for cells in self.notes["rows"]]
        title, kept = TITLE, list(range(len(header)))
        if not self.wide:
            title, kept = _fitting(header, rows, options.max_width)
        yield _table(header, rows, kept, title)
        direction = "higher" if board["higher_is_better"] else "lower"
        yield _dim(
            f"{board['primary']}: {direction} is better; ± is the 95 % interval over seeds; difference to {board['base']}"
        )
        if any("seeds)" in cells[VERDICT] for cells in rows):
            yield _dim("undecided (n seeds): so many of each would probably decide it")
        left = [name for at, name in enumerate(header) if at not in kept and at not in (SCALE, SEEDS)]
        if left:
            yield _dim(f"not shown: {clean(', '.join(left), 300)} (--wide shows them, --csv all that is known)")
        for floor in board["noise"]:
            if floor["detectable"] is not None and floor["task"] in (board["primary"], *board["primary_tasks"][:1]):
                yield _dim(
                    f"noise floor of {floor['task']} at {floor['scale']}: seeds differ by {floor['noise']['sigma']:.4f}; "
                    f"a difference under {floor['detectable']:.4f} is not seen"
                )
        for item in board["invalid"]:
            what = f"{item['experiment']} {item['scale']} seed {item['seed']}: {clean(item['reason'], 200)}"
            yield Text(f"{'failed' if item.get('failed') else 'invalid'}: {what}", style="red")
        for text in board.get("warnings", ()):
            yield Text(f"⚠ {text}", style="yellow")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], kept: Sequence[int], title: str) -> RenderableType:
    shown = [
        [Text(cells[at], style=STATES.get(cells[at].split(" ")[0], "")) if at == VERDICT else cells[at] for at in kept]
        for cells in rows
    ]
    numbers = [place for place, at in enumerate(kept) if at not in (NAME, SCALE, VERDICT)]
    return table([header[at] for at in kept], shown, numbers=numbers, title=title)


def _short(cells: Sequence[str]) -> list[str]:
    return [cell.replace(" seeds would do)", " seeds)") if at == VERDICT else cell for at, cell in enumerate(cells)]


def _fitting(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> tuple[str, list[int]]:
    """The title and the columns that are shown: those that decide, then the others in order while there is room."""
    same = {at: rows[0][at] for at in (SCALE, SEEDS) if rows and len({cells[at] for cells in rows}) == 1}
    said = [f"at {same[SCALE]}"] if SCALE in same else []
    said += [f"{same[SEEDS]} seeds each" if same[SEEDS] != "1" else "one seed each"] if SEEDS in same else []
    widths = [max([len(name), *(len(cells[at]) for cells in rows)]) for at, name in enumerate(header)]
    kept = [at for at in range(min(DECIDING, len(header))) if at not in same]
    used = sum(widths[at] + GAP for at in kept)
    for at in range(DECIDING, len(header)):
        if used + widths[at] <= width:
            kept.append(at)
            used += widths[at] + GAP
    return " ".join([TITLE, ", ".join(said)]).strip(), kept


def _dim(line: str) -> Text:
    return Text(line, style="dim")
