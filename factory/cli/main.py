"""The command `factory`: puts the commands together, and turns what goes wrong into a message and an exit status.

Nothing heavy is imported before a command needs it, so that help and mistakes are answered at once.
"""

import json
import os
import sys
import traceback
from typing import Any

import click
import typer

from factory.cli import (
    backfill,
    batch,
    calibrate,
    check,
    compare,
    contamination,
    costs,
    demo,
    doctor,
    domains,
    drift,
    duplicates,
    estimate,
    evaluate,
    explain,
    export,
    extract,
    funnel,
    gc,
    init,
    leaderboard,
    look,
    merge,
    plan,
    report,
    run,
    search,
    signal,
    status,
    support,
    transfer,
    ui,
    verify,
    whatif,
)
from factory.cli.quiet import hush
from factory.core.errors import FactoryError, RecipeError

INTERRUPTED = 130
BUG = 70

app = typer.Typer(
    help="From raw crawls to proven pretraining data: every document accounted for, every recipe judged by proxies.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    suggest_commands=False,  # click does it, once
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

# In the order in which somebody meets them, each with what it does in a few words.
for _name, _module, _help in (
    ("demo", demo, "Everything at work, on this machine's own texts"),
    ("init", init, "Write a recipe for your files"),
    ("doctor", doctor, "Examine this machine"),
    ("check", check, "Every mistake of a recipe at once"),
    ("plan", plan, "What is there, what would be made, and why"),
    ("estimate", estimate, "What a run would take: time, memory, disk"),
    ("run", run, "Make what is not there"),
    ("ui", ui, "Dagster on this recipe"),
    ("backfill", backfill, "Snapshots or experiments, by Dagster"),
    ("status", status, "What is there: rows, digests, checks"),
    ("funnel", funnel, "Documents and tokens per rule"),
    ("domains", domains, "Tokens by domain, and the mixture filters imply"),
    ("look", look, "Documents a rule dropped"),
    ("whatif", whatif, "Other thresholds, on the scores that are there"),
    ("calibrate", calibrate, "Thresholds for other texts, from reference documents"),
    ("duplicates", duplicates, "Clusters of copies, and removed pieces"),
    ("contamination", contamination, "Benchmarks' items in the corpus, with the spans"),
    ("support", support, "Questions the corpus has documents for, and what filters take"),
    ("drift", drift, "How far every signal moved since the snapshot before"),
    ("extract", extract, "Extractors side by side on real pages"),
    ("batch", batch, "The documents a training step reads"),
    ("explain", explain, "One document's whole story"),
    ("export", export, "The kept documents, as files for others"),
    ("search", search, "The mixture a search found, and its trials"),
    ("evaluate", evaluate, "Any checkpoint on tasks of local files"),
    ("merge", merge, "Checkpoints of one seed model into one"),
    ("leaderboard", leaderboard, "Which experiment gives the better model"),
    ("compare", compare, "Two experiments: better, worse, or what deciding would cost"),
    ("signal", signal, "Tasks worth reading at this scale, and their noise"),
    ("transfer", transfer, "Whether small proxies decide like large ones"),
    ("costs", costs, "What every training took, discarded ones too"),
    ("report", report, "Everything on one HTML page"),
    ("verify", verify, "Is every byte what was written?"),
    ("gc", gc, "Remove what nothing stands on"),
):
    app.command(_name, short_help=_help)(_module.command)


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", is_eager=True, help="Print the version and stop."),
) -> None:
    if version:
        import factory

        print(factory.__version__)
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run a command; leaves with its exit status."""
    hush(os.environ)
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(_run(given))


def _run(arguments: list[str]) -> int:
    as_json = "--json" in arguments
    try:
        status: Any = app(arguments, prog_name="factory", standalone_mode=False)
        sys.stdout.flush()
        if status == INTERRUPTED:  # typer has caught the interrupt
            return _interrupted()
        return status if isinstance(status, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _interrupted()
    except FactoryError as error:
        return _explain(error, as_json)
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _explain(FactoryError(str(error)), as_json)
    except Exception:
        traceback.print_exc()
        print("\nThis is a bug of the factory, not of your data. What is finished is kept.", file=sys.stderr)
        return BUG


def _interrupted() -> int:
    print("\nInterrupted. What is finished is kept: the same command goes on from there.", file=sys.stderr)
    return INTERRUPTED


def _explain(error: FactoryError, as_json: bool) -> int:
    from factory.reports.text import clean

    # Messages may quote documents and file names.
    message = clean(str(error), lines=True)
    if as_json:
        print(json.dumps({"error": {"kind": type(error).__name__, "message": message, "exit_code": error.exit_code}}))
    problems = error.problems if isinstance(error, RecipeError) else ()
    if len(problems) > 1:
        message = f"{len(problems)} problems:\n" + "\n".join(f"  - {clean(item)}" for item in problems)
    print(f"error: {message}", file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    main()
