"""What can go wrong on a user's side, each with its exit status; anything else that is raised is a bug of ours."""

import difflib
from collections.abc import Iterable


class FactoryError(Exception):
    """A problem a person can act on: the message says what was asked, what exists and what to do next."""

    exit_code = 1


class RecipeError(FactoryError):
    """A recipe that cannot run; holds every problem found, not the first one."""

    exit_code = 2

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class InputError(FactoryError):
    """An input that is missing, empty or cannot be read at all."""

    exit_code = 2


class LeaseHeld(FactoryError):
    """Somebody else is writing this dataset."""

    exit_code = 3


class StoreError(FactoryError):
    """The store cannot be read or written: permissions, space, network."""

    exit_code = 4


class IntegrityError(FactoryError):
    """Bytes in the store are not what their manifest says, or rows that should be aligned are not."""

    exit_code = 5


class LedgerError(FactoryError):
    """Records that came in are not all accounted for, or too many of them are errors."""

    exit_code = 6


class DoesNotFit(FactoryError):
    """A plan that asks for more memory or disk than there is: refused before anything is made."""

    exit_code = 7


class TaskFailed(FactoryError):
    """A task failed after its retries; carries the first cause."""


def suggest(name: str, known: Iterable[str]) -> str:
    """' Did you mean …? Known: …' for a name that does not exist."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"{hint} Known: {', '.join(names) if names else 'none'}."
