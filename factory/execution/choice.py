"""Which executor a name means: `local`, `ray`, or `ray:ADDRESS` of a cluster."""

from factory.core.errors import FactoryError, suggest
from factory.execution.local import LocalExecutor
from factory.execution.tasks import Executor


def make_executor(name: str = "local", workers: int = 0) -> Executor:
    """The executor of this name; `workers` bounds the local one. Raises FactoryError for a name that means none."""
    kind, _, address = name.partition(":")
    if kind == "local" and not address:
        return LocalExecutor(workers)
    if kind == "ray":
        from factory.execution.ray import RayExecutor

        return RayExecutor(address or "auto")
    raise FactoryError(f"No executor is named '{name}'.{suggest(name, ['local', 'ray', 'ray:ADDRESS'])}")
