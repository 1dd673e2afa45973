"""How much mathematics a text holds: TeX commands, formulas, environments, symbols.

A command is a backslash and two letters or more, or one letter within a formula (OpenWebMath, arXiv:2310.06786, looks for
pages by them; RedStone, arXiv:2412.03398, keeps those with five or more). `inline_formulas` are `\\(…\\)` and `$…$`,
`display_formulas` `\\[…\\]` and `$$…$$`, none over a blank line, `environments` each `\\begin{`. A pair of dollar signs is
money unless it holds a command, an operator or a single letter, touches its content, follows no letter or digit, and no
digit follows; `\\$` is a dollar. Symbols are mathematical characters outside ASCII, no currency or degree signs.
`formula_fraction` is the share of bytes in formulas; environments do not count there.
"""

import pyarrow as pa

from factory.core.registry import NoSettings, register
from factory.core.stage import BatchFunction

COLUMNS = {
    "tex_commands": pa.uint32(),
    "tex_commands_per_1000": pa.float32(),
    "inline_formulas": pa.uint32(),
    "display_formulas": pa.uint32(),
    "environments": pa.uint32(),
    "symbols": pa.uint32(),
    "symbols_per_1000": pa.float32(),
    "formula_fraction": pa.float32(),
}


@register("math_density", version=1, reads=("text",), writes=COLUMNS)
def math_density(config: NoSettings) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    from factory.kernels.columns import count_column, share_column
    from factory.kernels.mathematics import COUNTS, count_mathematics
    from factory.kernels.text import view_text

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        view = view_text(batch.column("text"))
        count = dict(zip(COUNTS, count_mathematics(view).T, strict=True))
        columns = [
            count_column(count["commands"], view.valid),
            share_column(1000 * count["commands"], count["characters"], view.valid),
            count_column(count["inline"], view.valid),
            count_column(count["display"], view.valid),
            count_column(count["environments"], view.valid),
            count_column(count["symbols"], view.valid),
            share_column(1000 * count["symbols"], count["characters"], view.valid),
            share_column(count["formula_bytes"], count["bytes"], view.valid),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score
