"""The settings of C4's line pass, for the scorers that run it."""

from pydantic import Field

from factory.core.config import Config


class C4Lines(Config):
    """Which rules drop a line (arXiv:1910.10683, section 2.2); a bound that is absent drops none."""

    terminal_punctuation: bool = True
    citations: bool = True
    min_words_per_line: int | None = Field(default=3, ge=0)
    max_word_length: int | None = Field(default=1000, ge=1)
    javascript: bool = True
    policy: bool = True

    def rules(self) -> tuple[bool, bool, int, int, bool, bool]:
        """The settings in the order of `factory.kernels.c4.LineRules`, where -1 is no bound."""
        least = -1 if self.min_words_per_line is None else self.min_words_per_line
        most = -1 if self.max_word_length is None else self.max_word_length
        return self.terminal_punctuation, self.citations, least, most, self.javascript, self.policy
