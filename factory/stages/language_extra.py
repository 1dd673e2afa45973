"""How the libraries of the extra `languages` are loaded."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from factory.core.errors import FactoryError


@contextmanager
def loading(words: str, library: str) -> Iterator[None]:
    """Silences what the import of a library warns of, and says what to install where it is missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImportError as error:
        raise FactoryError(
            f"The words '{words}' need {library}, which is not installed.\n  pip install 'corpus-factory[languages]'"
        ) from error
