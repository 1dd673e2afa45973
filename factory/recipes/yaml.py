"""YAML as plain data: the safe loader, and a key written twice is an error instead of the last one winning."""

from typing import Any

import yaml

from factory.core.errors import RecipeError

MAX_BYTES = 1 << 20


class _Loader(yaml.SafeLoader):
    pass


def _mapping(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is there twice", key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return {
        loader.construct_object(key, deep=True): loader.construct_object(value, deep=True)  # type: ignore[no-untyped-call]
        for key, value in node.value
    }


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(text: str, name: str) -> Any:
    """Plain data from YAML text; raises RecipeError with file, line and what is wrong."""
    if len(text) > MAX_BYTES:
        raise RecipeError([f"{name}: {len(text):,} characters; a recipe has at most {MAX_BYTES:,}."])
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}, line {mark.line + 1}" if mark else name
        raise RecipeError([f"{where}: {error.problem or error.context}."]) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RecipeError([f"{name}: not readable as YAML: {error}."]) from error
