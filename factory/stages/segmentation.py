"""Which words a text has: the cutters that scorers name with their setting `words`.

A cutter takes a view of texts and gives the byte ranges of their pieces (see `factory.kernels.pieces`): in order, apart
from each other, a pure function of each text alone. Thresholds hold only for the words they were fitted with, so the name
of the cutter is a setting, and part of the fingerprint.

Sentences are counted over a cut, of whole texts or of their lines, by `factory.kernels.chunks.count_sentences(view, cut)`
and `sentence_counts(view, cut, begins, ends)`, where `begins` and `ends` are bytes of `view.data`. Over the words
`spacy_en` that is the number that spaCy's `Sentencizer` gives. A line that a rule has changed has to be cut again first.
"""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator

from factory.core.errors import FactoryError, suggest

WORDS = {
    "unicode": "words and marks of any script with spaces, by the properties of characters",
    "uax29": "what lies between the default word boundaries of Unicode, which DCLM's n-grams are made of",
    "whitespace": "what lies between white space",
    "spacy_en": "exactly the tokens of spaCy's English tokenizer, which datatrove counts (extra: languages)",
    "jieba_zh": "Chinese words and marks, by jieba (extra: languages)",
    "sudachi_ja": "Japanese words and marks, by Sudachi, shortest units (extra: languages)",
    "pythainlp_th": "Thai words and marks, by PyThaiNLP (extra: languages)",
    "kiwi_ko": "Korean morphemes and marks, by Kiwi (extra: languages)",
    "characters": "every character, for scripts without spaces and without a segmenter",
    "auto": "of these, by the script that most letters of the text are of (extra: languages)",
}


def known_words(name: str) -> str:
    """The name again; raises ValueError for one that is none."""
    if name not in WORDS:
        raise ValueError(f"No words are named '{name}'.{suggest(name, WORDS)}")
    return name


# The type of the setting: a wrong name is found when a recipe is read.
Words = Annotated[str, AfterValidator(known_words)]


PACKAGES = {
    "spacy_en": ("spacy",),
    "jieba_zh": ("jieba",),
    "sudachi_ja": ("sudachipy", "sudachidict_core"),
    "pythainlp_th": ("pythainlp",),
    "kiwi_ko": ("kiwipiepy", "kiwipiepy_model"),
    "auto": ("jieba", "sudachipy", "sudachidict_core", "pythainlp"),
}


def word_packages(config: Any) -> tuple[str, ...]:
    """The libraries whose release decides how a stage with the setting `words` cuts."""
    return PACKAGES.get(config.words, ())


@cache
def find_cutter(name: str) -> Any:
    """The cutter of this name, a function from TextView to Cut, made once per process; raises FactoryError for others."""
    if name not in WORDS:
        raise FactoryError(f"No words are named '{name}'.{suggest(name, WORDS)}")
    return _makers()[name]()


def _makers() -> dict[str, Callable[[], Any]]:
    # Not above: importing numba takes longer than checking a recipe.
    from factory.kernels.pieces import cut_unicode, cut_whitespace
    from factory.kernels.scripts import cut_characters
    from factory.kernels.uax29 import cut_uax29
    from factory.stages.native_words import jieba_words, kiwi_words, sudachi_words, thai_words
    from factory.stages.script_words import ScriptWords
    from factory.stages.spacy_words import SpacyWords

    return {
        "unicode": lambda: cut_unicode,
        "uax29": lambda: cut_uax29,
        "whitespace": lambda: cut_whitespace,
        "spacy_en": SpacyWords,
        "jieba_zh": jieba_words,
        "sudachi_ja": sudachi_words,
        "pythainlp_th": thai_words,
        "kiwi_ko": kiwi_words,
        "characters": lambda: cut_characters,
        "auto": lambda: ScriptWords(find_cutter),
    }
