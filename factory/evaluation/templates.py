"""Templates of task files (Jinja) in a sandbox: what they can call, how long they run and how much they make is bounded.

In: a template and a record. Out: a text, or the value of a template that is one expression. A name the record lacks is an
error, never an empty text. What could run long or make much of little (nested loops, macros, `*` of texts, padding) is
refused by name when the template is read, or when it happens.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateError, Undefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from factory.core.errors import InputError

MAX_TEMPLATE = 20_000  # characters
MAX_TEXT = 1_000_000  # of a record's texts together, and of what is rendered
MAX_ASSIGNMENTS = 8

FILTERS = (
    "abs", "capitalize", "d", "default", "first", "float", "int", "join", "last", "length", "list", "lower", "max", "min",
    "replace", "reverse", "round", "sort", "string", "title", "tojson", "trim", "unique", "upper", "wordcount",
)  # fmt: skip
METHODS = (
    "capitalize", "count", "endswith", "find", "get", "index", "isalpha", "isdigit", "items", "join", "keys", "lower",
    "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rpartition", "rsplit", "rstrip", "split",
    "splitlines", "startswith", "strip", "title", "upper", "values",
)  # fmt: skip
REFUSED = (
    nodes.Block, nodes.CallBlock, nodes.Extends, nodes.FilterBlock, nodes.FromImport, nodes.Import, nodes.Include,
    nodes.Macro, nodes.Pow,
)  # fmt: skip


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["*", "%"])

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if not all(isinstance(side, (int, float)) for side in (left, right)):
            raise SecurityError(f"'{operator}' is for numbers")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner, name = getattr(called, "__self__", None), getattr(called, "__name__", "")
        if not isinstance(owner, (str, list, tuple, dict)) or name not in METHODS:
            raise SecurityError(f"'{name or called!r:.40}' cannot be called; what can: {', '.join(METHODS)}")
        if name == "replace":
            _may_replace(owner, *args)
        if name == "join":
            _may_join(args[0] if args else (), owner)
        return super().call(context, called, *args, **kwargs)


def _may_replace(text: Any, old: Any = "", new: Any = "", *rest: Any) -> None:
    if len(str(text)) + str(text).count(str(old)) * len(str(new)) > MAX_TEXT:
        raise SecurityError(f"'replace' would make more than {MAX_TEXT:,} characters")


def _may_join(parts: Any = (), between: Any = "") -> None:
    if _size(parts) + len(parts) * len(str(between)) > 2 * MAX_TEXT:
        raise SecurityError(f"'join' would make more than {MAX_TEXT:,} characters")


def _join(parts: Any, between: str = "") -> str:
    _may_join(parts, between)
    return str(between).join(str(part) for part in parts)


def _replace(text: Any, old: str, new: str) -> str:
    _may_replace(text, old, new)
    return str(str(text).replace(old, new))


def _environment() -> _Sandbox:
    made = _Sandbox(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    made.filters = {name: made.filters[name] for name in FILTERS} | {"join": _join, "replace": _replace}
    made.globals = {}
    return made


ENVIRONMENT = _environment()


def check_template(template: str, where: str) -> None:
    """Raise InputError for a template that will never be rendered."""
    _compiled(template, where)


def render(template: str, record: Mapping[str, Any], where: str) -> str:
    """The text a template makes of a record."""
    run, _ = _compiled(template, where)
    return str(_run(run, record, where))


def value(template: str, record: Mapping[str, Any], where: str) -> Any:
    """What a template of one expression comes to: a list stays a list. Another template is a text."""
    run, expression = _compiled(template, where)
    return _run(run if expression is None else expression, record, where)


def _run(run: Callable[..., Any], record: Mapping[str, Any], where: str) -> Any:
    size = _size(record)
    if size > MAX_TEXT:
        raise InputError(f"{where}: the record holds {size:,} characters; a template is given at most {MAX_TEXT:,}.")
    try:
        made = run(**record)
        if isinstance(made, Undefined):
            str(made)  # says which name there is not
    except (
        TemplateError,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ) as error:
        keys = ", ".join(sorted(record))
        raise InputError(f"{where}: the template cannot be rendered: {error}. The record has {keys}.") from error
    if _size(made) > MAX_TEXT:
        raise InputError(f"{where}: the template makes more than {MAX_TEXT:,} characters.")
    return made


def _size(found: Any) -> int:
    if isinstance(found, str):
        return len(found)
    if isinstance(found, Mapping):
        return sum(_size(key) + _size(one) for key, one in found.items())
    return sum(map(_size, found)) + len(found) if isinstance(found, (list, tuple)) else 1


def _compiled(template: str, where: str) -> tuple[Callable[..., str], Callable[..., Any] | None]:
    """A function that renders, and one that gives the value where the template is one expression."""
    try:
        return _compile(template)
    except (TemplateError, RecursionError) as error:
        raise InputError(f"{where}: not a template that is rendered here: {error}.") from error


@lru_cache(maxsize=256)
def _compile(template: str) -> tuple[Callable[..., str], Callable[..., Any] | None]:
    if len(template) > MAX_TEMPLATE:
        raise SecurityError(f"it has {len(template):,} characters, and at most {MAX_TEMPLATE:,} are read")
    tree = ENVIRONMENT.parse(template)
    _check(tree)
    expression = _expression(tree, template)
    made = None if expression is None else ENVIRONMENT.compile_expression(expression, undefined_to_none=False)
    return ENVIRONMENT.from_string(template).render, made


def _check(tree: nodes.Template) -> None:
    for kind in REFUSED:
        if next(tree.find_all(kind), None) is not None:
            raise SecurityError(f"it may not hold '{kind.__name__.lower()}'")
    for loop in tree.find_all(nodes.For):
        inner = [*loop.body, *loop.else_]
        if loop.recursive or any(part.find(nodes.For) or isinstance(part, nodes.For) for part in inner):
            raise SecurityError("it may not hold a loop in a loop")
    if len(list(tree.find_all((nodes.Assign, nodes.AssignBlock)))) > MAX_ASSIGNMENTS:
        raise SecurityError(f"it may set at most {MAX_ASSIGNMENTS} names")
    unknown = [node.name for node in tree.find_all(nodes.Filter) if node.name not in FILTERS]
    if unknown:
        raise SecurityError(f"there is no filter '{unknown[0]}'; known: {', '.join(FILTERS)}")


def _expression(tree: nodes.Template, template: str) -> str | None:
    """The source of a template's only expression."""
    body = tree.body[0] if len(tree.body) == 1 else None
    if not isinstance(body, nodes.Output) or len(body.nodes) != 1 or isinstance(body.nodes[0], nodes.TemplateData):
        return None
    text = template.strip()
    return text.removeprefix("{{").removesuffix("}}").strip("-+ \n") if text == template else None
