"""factory calibrate: thresholds, stop words and confidences from reference text."""

import os
from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, say, show
from factory.core.errors import InputError


def command(
    preset: Annotated[
        str | None, typer.Option("--preset", metavar="NAME", help="The rules: gopher, fineweb, ./own.yaml, …")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option("--reference", metavar="GLOB", help="Good texts of the language (JSONL, Parquet, .txt)."),
    ] = None,
    english: Annotated[
        str | None,
        typer.Option("--english", metavar="GLOB", help="The same kind of texts in English, to compare with."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="keep, or FineWeb2's quantile, mean_std, median_ratio (with --english), tail_10, english. "
            "Default: quantile with --english, else keep.",
        ),
    ] = None,
    keep: Annotated[
        float, typer.Option("--keep", help="With method keep: what each rule keeps of the reference.")
    ] = 0.97,
    words: Annotated[
        str | None, typer.Option("--words", help="What cuts the language into words: unicode, jieba_zh, …")
    ] = None,
    fixed: Annotated[
        list[str] | None, typer.Option("--fixed", metavar="RULE", help="A rule that stays as it is; may be repeated.")
    ] = None,
    stop_words: Annotated[bool, typer.Option("--stop-words", help="Only the stop words of the reference.")] = False,
    confidence: Annotated[
        str | None,
        typer.Option(
            "--confidence", metavar="SCORER", help="Instead: each language's least confidence, from a run's own scores."
        ),
    ] = None,
    text: Annotated[str, typer.Option("--text", help="Where a record of the references has its text.")] = "text",
    documents: Annotated[
        int, typer.Option("--documents", min=1, help="At most so many texts of each reference.")
    ] = 5000,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="Where to write it; never overwritten.")
    ] = None,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Fit a preset to other texts, and write it as a preset of your own: {preset: ./thresholds.yaml}."""
    from factory.recipes import calibrate
    from factory.reports import calibration

    if out is not None and os.path.lexists(out):
        raise InputError(f"{out} is there already and is not overwritten. Remove it, or name another file.")
    if confidence is not None:
        found = calibrate.confidences(open_workspace(recipe, store), confidence)
        _write(out, calibrate.confidence_text(found), "filters: {…: {use: in_range_by, min: FILE, …}}")
        show(found, calibration.confidence, as_json=as_json)
        return
    if reference is None or bool(preset) == stop_words:
        raise InputError(
            "Name what to fit and to what: factory calibrate --preset gopher --reference 'wiki_fr/*.jsonl'; "
            "--stop-words --reference …; or --confidence SCORER for a recipe's own languages."
        )
    folder = os.getcwd()
    if stop_words:
        listed = calibrate.reference_stop_words(
            reference, folder=folder, words=words or "unicode", text=text, documents=documents
        )
        _write(out, "".join(f"{word.word}\n" for word in listed), "scorers: {…: {use: stop_words, file: FILE}}")
        show([word._asdict() for word in listed], calibration.stop_words, as_json=as_json)
        return
    assert preset is not None
    made = calibrate.calibrate(
        preset,
        reference,
        folder=folder,
        english=english,
        method=method,
        keep=keep,
        words=words,
        fixed=fixed or (),
        text=text,
        documents=documents,
    )
    _write(out, calibrate.preset_text(made), "filters: {…: {preset: FILE}}")
    show(made, calibration.calibration, as_json=as_json)


def _write(out: str | None, content: str, use: str) -> None:
    if out is None:
        return
    with open(out, "x", encoding="utf-8") as stream:
        stream.write(content)
    say(f"Wrote {out}. In a recipe beside it: {use.replace('FILE', './' + os.path.basename(out))}")
