"""The log-likelihood of a text after a context, for anything that can encode texts and score tokens.

- Every text stands alone and is predicted from the model's *start token*: its BOS if it has one, else its EOS, which is
  what stands between documents in a training stream. It is put there once, here; an encoder that adds it is refused.
- Context and continuation are encoded together; what is scored are the tokens after the longest prefix this encoding
  shares with that of the context alone. Nothing is stripped.
- Where both do not fit, the context loses its left end. A continuation longer than the model's context (a document) is
  cut into disjoint windows, each predicted from the last token of the window before it, so every token is scored once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from factory.core.errors import FactoryError

Progress = Callable[[int], None]

_CHUNK = 512  # texts encoded at a time: bounds memory, and is how often progress is told


class Row(NamedTuple):
    """Tokens of which the last `scored` are to be predicted, each from those before it."""

    tokens: list[int]
    scored: int


class RowScore(NamedTuple):
    nats: float  # -Σ ln p of the scored tokens
    greedy: bool  # each of them was the likeliest at its place


class Model(Protocol):
    """What a model must offer; `context` is the number of tokens it can be fed."""

    @property
    def start(self) -> int: ...

    @property
    def context(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of texts, without any special token."""

    def score(self, rows: Sequence[Row]) -> list[RowScore]:
        """Scores in the order of the rows; how rows are batched must not matter."""


@dataclass(frozen=True)
class Likelihood:
    """How likely a text is: `nats` = -ln p, over `tokens`; `truncated` where its context lost tokens."""

    nats: float
    tokens: int
    greedy: bool
    truncated: bool


def likelihoods(
    model: Model, pairs: Sequence[tuple[str, str]], progress: Progress = lambda done: None
) -> list[Likelihood]:
    """The likelihood of each (context, continuation); a document is a continuation of the empty context."""
    results: list[Likelihood] = []
    for begin in range(0, len(pairs), _CHUNK):
        chunk = pairs[begin : begin + _CHUNK]
        planned = [_plan(model, context, continuation) for context, continuation in _encoded(model, chunk)]
        scores = iter(model.score([row for rows, _ in planned for row in rows]))
        for rows, truncated in planned:
            own = [next(scores) for _ in rows]
            tokens = sum(row.scored for row in rows)
            greedy = all(score.greedy for score in own)
            results.append(Likelihood(sum(score.nats for score in own), tokens, greedy, truncated))
        progress(len(results))
    return results


def _encoded(model: Model, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[list[int], list[int]]]:
    contexts = sorted({context for context, _ in pairs if context})
    alone = dict(zip(contexts, model.encode(contexts), strict=True)) | {"": []}
    together = model.encode([context + continuation for context, continuation in pairs])
    for (context, continuation), tokens in zip(pairs, together, strict=True):
        if tokens[:1] == [model.start]:
            raise FactoryError(
                f"The tokenizer put the start token {model.start} before a text, and the likelihood adds it too: the model "
                "would see it twice. Remove it from the tokenizer's post-processor."
            )
        shared = 0
        for one, other in zip(tokens, alone[context], strict=False):
            if one != other:
                break
            shared += 1
        if shared == len(tokens):
            raise FactoryError(f"No token is left to score in {continuation!r:.60} after {context[-60:]!r}.")
        yield tokens[:shared], tokens[shared:]


def _plan(model: Model, context: list[int], continuation: list[int]) -> tuple[list[Row], bool]:
    """The rows whose scores add up to the continuation's, and whether context was lost."""
    limit = model.context
    room = limit - len(continuation)  # the start token is fed, the last token is not: they balance
    if room >= 0:
        kept = context[max(0, len(context) - room) :]
        return [Row([model.start, *kept, *continuation], len(continuation))], len(kept) < len(context)
    stream = [model.start, *continuation]
    windows = [stream[at : at + limit + 1] for at in range(0, len(continuation), limit)]
    return [Row(window, len(window) - 1) for window in windows], bool(context)
