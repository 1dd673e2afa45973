"""factory init: a first recipe for somebody's own files."""

import importlib.util
import os
import re
from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, print_json
from factory.core.errors import InputError, suggest


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
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="RECIPE", help="Begin with a published recipe: fineweb, fineweb2, dclm_baseline, dolma, …"
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="With --from: where its paths data/… lie.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a commented recipe.yaml that works for your files, or a published recipe for them. Never overwrites one."""
    from factory.recipes.init import draft

    folder = os.path.abspath(directory)
    target = os.path.join(folder, DEFAULT_RECIPE)
    if os.path.lexists(target):
        raise InputError(f"{target} is there already and is not overwritten. Remove it, or name another folder.")
    if uri is not None and "://" not in uri and not os.path.isabs(uri):
        uri = os.path.relpath(os.path.abspath(uri), folder)
    if source is not None:
        _copy(source, target, uri=uri, use=use, name=name, data=data, as_json=as_json)
        return
    if data is not None:
        raise InputError("--data says where the files of a published recipe lie: name one with --from.")
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


def _copy(
    source: str, target: str, *, uri: str | None, use: str | None, name: str | None, data: str | None, as_json: bool
) -> None:
    """A recipe that ships, as recipe.yaml for other files."""
    from factory.recipes.init import draft_from

    folder = os.path.dirname(target)
    shipped = _shipped()
    if source not in shipped:
        raise InputError(f"No recipe is named '{source}'.{suggest(source, shipped)}")
    if data is not None and "://" not in data and not os.path.isabs(data):
        data = os.path.relpath(os.path.abspath(data), folder)
    with open(shipped[source], encoding="utf-8") as stream:
        text = stream.read()
    if name is not None:
        text = re.sub(r"^name: .*$", lambda _: f"name: {name}", text, count=1, flags=re.MULTILINE)
    made, found, missing = draft_from(text, folder, uri=uri, use=use, data=data)
    os.makedirs(folder, exist_ok=True)
    with open(target, "x", encoding="utf-8") as stream:
        stream.write(made)
    if as_json:
        print_json({"recipe": target, "from": source, "uri": found.uri if found else None, "missing": missing})
        return
    print(f"Wrote {target} from {source}" + (f": {found.files:,} files of '{found.uri}'." if found else "."))
    for place in missing:
        print(f"Not there yet: {place}. Put it there, or change the line; the recipe says what it is.")
    if missing and data is None:
        print("Where all of 'data/' lies elsewhere, --data DIR writes that folder into the recipe.")
    shown = "" if folder == os.getcwd() else f" --recipe {os.path.relpath(target)}"
    print(f"Next: factory plan{shown}, then factory run{shown}, then factory funnel{shown}.")


def _shipped() -> dict[str, str]:
    """The recipes that ship, by name."""
    spec = importlib.util.find_spec("assets")
    found = {}
    for place in list(spec.submodule_search_locations or []) if spec else []:
        folder = os.path.join(place, "recipes")
        for file in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if file.endswith(".yaml") and file != "demo.yaml":
                found[file.removesuffix(".yaml")] = os.path.join(folder, file)
    return found
