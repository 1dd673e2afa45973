"""factory init: a first recipe for somebody's own files."""

import os
from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, print_json
from factory.core.errors import InputError


def command(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="The project's folder.")] = ".",
    uri: Annotated[
        str | None,
        typer.Option("--uri", metavar="GLOB", help="The files, as a path, glob or URL. Default: what lies in DIR."),
    ] = None,
    use: Annotated[
        str | None, typer.Option("--use", metavar="SOURCE", help="How to read them: warc, wet, jsonl, parquet, text.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The recipe's name. Default: after the folder.")] = None,
    as_json: Json = False,
) -> None:
    """Look at your files and write a commented recipe.yaml that works for them. Never overwrites one."""
    from factory.recipes.init import draft

    folder = os.path.abspath(directory)
    target = os.path.join(folder, DEFAULT_RECIPE)
    if os.path.lexists(target):
        raise InputError(f"{target} is there already and is not overwritten. Remove it, or name another folder.")
    if uri is not None and "://" not in uri and not os.path.isabs(uri):
        uri = os.path.relpath(os.path.abspath(uri), folder)
    text, found = draft(folder, uri=uri, use=use, name=name)
    os.makedirs(folder, exist_ok=True)
    with open(target, "x", encoding="utf-8") as stream:
        stream.write(text)
    if as_json:
        print_json({"recipe": target, "uri": found.uri, "use": found.use, "files": found.files, "text": found.text})
        return
    column = f", text in '{found.text}'" if found.text else ""
    print(f"Wrote {target}: {found.files:,} files of '{found.uri}' as {found.use}{column}.")
    shown = "" if folder == os.getcwd() else f" --recipe {os.path.relpath(target)}"
    print(f"Next: factory plan{shown}, then factory run{shown} tokens, then factory funnel{shown}.")
