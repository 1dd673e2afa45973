"""The log-likelihood of a text after a context, for anything that can encode texts and score tokens.

- Every text stands alone and is predicted from the model's *start token*: its BOS if it has one, else its EOS, which is
  what stands between documents in a training stream. It is put there once, here; an encoder that adds it is refused.
- Context and continuation are encoded together; what is scored are the tokens after the longest prefix this encoding
  shares with that of the context alone. Nothing is stripped.
- Where both do not fit, the context loses its left end. A continuation longer than the model's context (a document) is
  cut into disjoint windows, each predicted from the last token of the window before it, so every token is scored once.

`harness` reads as lm-evaluation-harness 0.4 does, for numbers that are compared with its: the start token stands before a
context only where the tokenizer itself puts it there, and goes first where tokens are cut; white space at the end of a
context belongs to the continuation, which begins after as many tokens as the context alone has.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from factory.core.errors import FactoryError, InputError

Progress = Callable[[int], None]
Reading = Literal["factory", "harness"]

_CHUNK = 2048  # texts encoded at a time: bounds memory, and is how often progress is told


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
    def adds_start(self) -> bool | None:
        """Whether its tokenizer, asked for special tokens, puts the start token before a text; None: it does otherwise."""

    @property
    def context(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of texts, without any special token."""

    def score(self, rows: Sequence[Row]) -> list[RowScore]:
        """Scores in the order of the rows; how rows are batched must not matter."""


class TokenModel(Model, Protocol):
    """A model that also tells tokens apart."""

    def token_nats(self, rows: Sequence[Row]) -> list[list[float]]:
        """-ln p of each scored token of each row."""


@dataclass(frozen=True)
class Likelihood:
    """How likely a text is: `nats` = -ln p, over `tokens`; `truncated` where its context lost tokens."""

    nats: float
    tokens: int
    greedy: bool
    truncated: bool


def likelihoods(
    model: Model,
    pairs: Sequence[tuple[str, str]],
    progress: Progress = lambda done: None,
    *,
    reading: Reading = "factory",
    context: int | None = None,
) -> list[Likelihood]:
    """The likelihood of each (context, continuation); a document is a continuation of the empty context.

    `context` asks for less than the model could be fed.
    """
    limit = _limit(model, context)
    results: list[Likelihood] = []
    for begin in range(0, len(pairs), _CHUNK):
        planned = list(_planned(model, pairs[begin : begin + _CHUNK], reading, limit))
        scores = iter(model.score([row for rows, _ in planned for row in rows]))
        for rows, truncated in planned:
            own = [next(scores) for _ in rows]
            tokens = sum(row.scored for row in rows)
            greedy = all(score.greedy for score in own)
            results.append(Likelihood(sum(score.nats for score in own), tokens, greedy, truncated))
        progress(len(results))
    return results


def token_nats(model: TokenModel, texts: Sequence[str]) -> list[list[float]]:
    """-ln p of every token of each text, in order."""
    results: list[list[float]] = []
    for begin in range(0, len(texts), _CHUNK):
        pairs = [("", text) for text in texts[begin : begin + _CHUNK]]
        planned = [rows for rows, _ in _planned(model, pairs, "factory", model.context)]
        scores = iter(model.token_nats([row for rows in planned for row in rows]))
        results += [[nats for _ in rows for nats in next(scores)] for rows in planned]
    return results


def _limit(model: Model, context: int | None) -> int:
    if context is not None and context < 2:
        raise InputError(
            f"evaluate: at most {context} tokens of context leave nothing to predict from. Ask for 2 or more."
        )
    return model.context if context is None else min(context, model.context)


def _planned(
    model: Model, pairs: Sequence[tuple[str, str]], reading: Reading, limit: int
) -> Iterator[tuple[list[Row], bool]]:
    """The rows of each pair, and whether context was lost."""
    if reading == "harness":
        if model.adds_start is None:
            raise InputError(
                f"evaluate: the harness would read texts with more than the start token {model.start} before them, as its "
                "tokenizer has them. Correct the post-processor of tokenizer.json, or name another start token."
            )
        pairs = [_spaces_moved(context, continuation) for context, continuation in pairs]
    for context, continuation in _encoded(model, pairs, reading):
        # The start token stands before everything, or where the harness has it.
        first = [model.start] if reading == "factory" or not context or model.adds_start else []
        yield _plan(first, context, continuation, limit=limit, keep=reading == "factory")


def _spaces_moved(context: str, continuation: str) -> tuple[str, str]:
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _encoded(model: Model, pairs: Sequence[tuple[str, str]], reading: Reading) -> Iterator[tuple[list[int], list[int]]]:
    contexts = list(dict.fromkeys(context for context, _ in pairs if context))
    texts = [context + continuation for context, continuation in pairs]
    encoded = model.encode([*contexts, *texts])
    alone = dict(zip(contexts, encoded, strict=False)) | {"": []}
    for (context, continuation), tokens in zip(pairs, encoded[len(contexts) :], strict=True):
        if tokens[:1] == [model.start]:
            raise FactoryError(
                f"The tokenizer put the start token {model.start} before a text, and the likelihood adds it too: the model "
                "would see it twice. Remove it from the tokenizer's post-processor."
            )
        own = alone[context]
        shared = min(len(own), len(tokens))
        if reading == "factory" and tokens[:shared] != own[:shared]:
            shared = next(at for at in range(shared) if tokens[at] != own[at])
        if shared == len(tokens):
            raise FactoryError(f"No token is left to score in {continuation!r:.60} after {context[-60:]!r}.")
        yield tokens[:shared], tokens[shared:]


def _plan(
    first: list[int], context: list[int], continuation: list[int], *, limit: int, keep: bool
) -> tuple[list[Row], bool]:
    """The rows whose scores add up to the continuation's, and whether context was lost.

    `keep` says whether `first` stays where the context is cut.
    """
    before = [*first, *context]
    room = limit + 1 - len(continuation)  # the last token is not fed
    if len(before) <= room:
        return [Row([*before, *continuation], len(continuation))], False
    if room >= 1:
        kept = [*first, *context[len(before) - room :]] if keep and first else before[len(before) - room :]
        return [Row([*kept, *continuation], len(continuation))], True
    stream = [*(first or before[-1:]), *continuation]
    windows = [
        Row(stream[at : at + limit + 1], len(stream[at + 1 : at + limit + 1]))
        for at in range(0, len(continuation), limit)
    ]
    if not keep:  # the harness gives the last window as much context as there is room for
        windows[-1] = Row(stream[-limit - 1 :], windows[-1].scored)
    return windows, bool(context)
