"""A trained causal language model in Hugging Face layout, as something that scores rows of tokens.

Always float32, whatever the weights were saved in, so that batching changes scores by less than 1e-4 nats. Only
safetensors are read: a folder with pickled weights is refused. There are three ways to feed it, and the first that gives
the model's own scores, which is tried when it is loaded, is taken: on a CPU a Llama-style model reads one `stream`; others
read rows as `trees`, in which what they share is computed once; and what takes neither is fed row by row. Logits are made
only where a token is scored, some places at a time.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from factory.core.errors import InputError
from factory.evaluation.likelihood import Row, RowScore
from factory.evaluation.stream import Stream
from factory.evaluation.trees import Tree, alone, build_trees

Start = Literal["auto", "bos", "eos"]

_LOGITS = {"cpu": 1 << 20, "cuda": 1 << 28}  # numbers in one part of the logits: 4 MiB, 1 GiB
_BATCH_TOKENS = {"cpu": 1024, "cuda": 1 << 16}
_TREE_TOKENS = {"cpu": 256, "cuda": 2048}  # attention grows with the square of it
_MASK = 1 << 26  # numbers in the mask of a batch
_SHARD = 1 << 14  # tokens: for fewer, a thread of their own is not worth starting
_SAME = 1e-3  # nats: what float32 leaves between two ways to compute one score, and a mask ignored does not


@dataclass(frozen=True)
class Checkpoint:
    """A model and its tokenizer; `start` is the token before every text, `context` how many tokens can be fed."""

    network: Any
    tokenizer: Any
    device: str
    start: int
    start_is: str  # "bos" or "eos"
    context: int
    batch_tokens: int
    adds_start: bool | None = False  # None: its tokenizer puts something else around a text
    branches: bool = False  # whether rows may share tokens
    stream: Stream | None = None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def score(self, rows: Sequence[Row]) -> list[RowScore]:
        scores: list[RowScore | None] = [None] * len(rows)
        for at, nats, hits in self._scored(rows):
            scores[at] = RowScore(float(nats.sum()), bool(hits.all()))
        return [score for score in scores if score is not None]

    def token_nats(self, rows: Sequence[Row]) -> list[list[float]]:
        """-ln p of each scored token of each row."""
        found: list[list[float]] = [[] for _ in rows]
        for at, nats, _ in self._scored(rows):
            found[at] = [float(one) for one in nats]
        return found

    def _scored(self, rows: Sequence[Row]) -> Iterator[tuple[int, Any, Any]]:
        """Row by row: its number, -ln p of its tokens, and whether each was the likeliest."""
        if self.stream is not None:
            yield from self._streamed(self.stream, rows)
            return
        kind = "cuda" if self.device.startswith("cuda") else "cpu"
        trees = build_trees(rows, _TREE_TOKENS[kind]) if self.branches else alone(rows)
        # Trees that branch need a mask; of the others, whose rows are one path, none is wanted.
        for some in ([tree for tree in trees if branching(tree)], [tree for tree in trees if not branching(tree)]):
            for batch in _batches(some, self.batch_tokens):
                yield from self._score(batch, max(1, _LOGITS[kind] // self.network.config.vocab_size))

    def _streamed(self, stream: Stream, rows: Sequence[Row]) -> Iterator[tuple[int, Any, Any]]:
        """The same from a stream, or from one for each thread."""
        import torch

        threads = torch.get_num_threads()
        shards = _shards(rows, threads)
        if len(shards) == 1:
            yield from stream.score(rows, self.batch_tokens)
            return
        torch.set_num_threads(1)  # each stream is one thread, and its matrix products take no more
        try:
            with ThreadPoolExecutor(len(shards)) as pool:
                own = [[rows[at] for at in shard] for shard in shards]
                found = pool.map(lambda some: list(stream.score(some, self.batch_tokens)), own)
                for shard, scores in zip(shards, found, strict=True):
                    yield from ((shard[at], nats, hits) for at, nats, hits in scores)
        finally:
            torch.set_num_threads(threads)

    def _score(self, batch: Sequence[Tree], count: int) -> Iterator[tuple[int, Any, Any]]:
        import torch

        width = max(len(tree) for tree in batch)
        # What several rows predict from one place (the letters of a question, say) is computed once.
        places = np.concatenate([own + at * width for at, tree in enumerate(batch) for own in tree.places])
        wanted, which = np.unique(places, return_inverse=True)
        targets = torch.from_numpy(np.concatenate([own for tree in batch for own in tree.targets])).to(self.device)
        order = np.argsort(which, kind="stable")
        nats, hits = np.empty(len(which)), np.empty(len(which), np.bool_)
        with torch.inference_mode():
            made = self._logits(batch, width, torch.from_numpy(wanted).to(self.device), count)
            for at, logits in zip(range(0, len(wanted), count), made, strict=True):
                some = order[slice(*np.searchsorted(which[order], (at, at + count)))]
                rows, columns = torch.from_numpy(which[some] - at).to(self.device), targets[torch.from_numpy(some)]
                found = _surprises(logits.float(), rows, columns)
                nats[some], hits[some] = (own.cpu().numpy() for own in found)
        at = 0
        for tree in batch:
            for row, own in zip(tree.rows, tree.targets, strict=True):
                yield row, nats[at : at + len(own)], hits[at : at + len(own)]
                at += len(own)

    def _logits(self, batch: Sequence[Tree], width: int, wanted: Any, count: int) -> Iterator[Any]:
        """Logits of the wanted places of a batch, which are counted row by row; `count` places at a time."""
        import torch

        fed = np.zeros((len(batch), width), np.int64)
        for at, tree in enumerate(batch):
            fed[at, : len(tree)] = tree.tokens
        given: dict[str, Any] = {"input_ids": torch.from_numpy(fed).to(self.device), "use_cache": False}
        if any(branching(tree) for tree in batch):
            positions, ends = np.zeros_like(fed), np.broadcast_to(np.arange(width) + 1, fed.shape).copy()
            for at, tree in enumerate(batch):
                positions[at, : len(tree)], ends[at, : len(tree)] = tree.positions, tree.ends
            place = torch.arange(width, device=self.device)
            seen = place[None, None, :, None] < torch.from_numpy(ends).to(self.device)[:, None, None, :]
            given["attention_mask"] = seen & (place[None, :] <= place[:, None])
            given["position_ids"] = torch.from_numpy(positions).to(self.device)
        # Right padding is never seen by what stands before it, so paths need no mask.
        if not self.branches:
            yield from self.network(**given).logits.flatten(0, 1)[wanted].split(count)
            return
        head = self.network.get_output_embeddings()
        kept: list[Any] = []

        def keep(_: Any, hidden: Any) -> Any:
            kept.append(hidden[0].flatten(0, 1)[wanted])
            return (kept[0][:1],)

        hook = head.register_forward_pre_hook(keep)
        try:
            self.network(**given)
        finally:
            hook.remove()
        yield from (head(some) for some in kept[0].split(count))


def branching(tree: Tree) -> bool:
    return bool((tree.ends != len(tree)).any())


def _surprises(logits: Any, rows: Any, columns: Any) -> tuple[Any, Any]:
    """-ln softmax at (rows, columns), and whether each is the first of the largest; the logits are used up."""
    most = logits.amax(-1)
    own = logits[rows, columns]
    hits = own == most[rows]
    # Which of several equal ones comes first is asked only where there may be several.
    hits[hits.clone()] = logits[rows[hits]].argmax(-1) == columns[hits]
    normaliser = most.double() + logits.sub_(most[:, None]).exp_().sum(-1).double().log()
    return normaliser[rows] - own.double(), hits


def _shards(rows: Sequence[Row], threads: int) -> list[list[int]]:
    """Rows in as many pieces of like size as threads are worth starting, those that begin alike together."""
    total = sum(len(row.tokens) for row in rows)
    count = max(1, min(threads, total // _SHARD))
    if count == 1:
        return [list(range(len(rows)))]
    order = sorted(range(len(rows)), key=lambda at: rows[at].tokens)
    ends = np.cumsum([len(rows[at].tokens) for at in order])
    cuts = np.searchsorted(ends, total * np.arange(1, count) / count)
    return [[order[at] for at in piece] for piece in np.split(np.arange(len(order)), cuts) if len(piece)]


def _batches(trees: Sequence[Tree], tokens: int) -> Iterator[list[Tree]]:
    """Trees of like length together, so that little is padded."""
    batch: list[Tree] = []
    for tree in sorted(trees, key=len, reverse=True):
        width = len(batch[0]) if batch else len(tree)
        if batch and ((len(batch) + 1) * width > tokens or (len(batch) + 1) * width * width > _MASK):
            yield batch
            batch = []
        batch.append(tree)
    if batch:
        yield batch


def load_checkpoint(
    directory: str | Path, *, device: str = "auto", batch_tokens: int | None = None, start: Start = "auto"
) -> Checkpoint:
    """A checkpoint from a folder.

    `start` is what stood before documents in training. `auto` takes the BOS that config.json names, else its EOS; say `eos`
    for a model whose tokenizer has a BOS that its training stream never held.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    folder = Path(directory)
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InputError(f"'{folder}' is no checkpoint in Hugging Face layout: it has no {name}.")
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"'{folder}' has no *.safetensors. Other weights run code when they are loaded; convert them.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        network = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, trust_remote_code=False, dtype=torch.float32
        )
    except Exception as error:
        raise InputError(f"The checkpoint '{folder}' cannot be loaded: {type(error).__name__}: {error}") from error
    finally:
        if bars:
            logging.enable_progress_bar()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # "</s>" inside a document is five characters, not the end of it
    config = network.config
    if tokenizer.get_vocab_size() > config.vocab_size:
        raise InputError(
            f"'{folder}': its tokenizer has {tokenizer.get_vocab_size():,} tokens and its model {config.vocab_size:,}: "
            "they do not belong together."
        )
    token, token_is = _start_token(folder, tokenizer, start)
    network.to(device).eval()
    kind = "cuda" if device.startswith("cuda") else "cpu"
    tokens = batch_tokens or _BATCH_TOKENS[kind]
    adds = _adds_start(tokenizer, token)
    plain = Checkpoint(network, tokenizer, device, token, token_is, _context(folder, config), tokens, adds)
    if device == "cpu" and (stream := _stream(plain, folder)) is not None:
        return replace(plain, stream=stream)
    return replace(plain, branches=_may_branch(plain))


def _stream(plain: Checkpoint, folder: Path) -> Stream | None:
    """The model as a stream, where it is of the shape `training` knows and scores what it scores."""
    from factory.training.model import read_config, shape_of

    try:
        stream = Stream(plain.network, shape_of(read_config(folder)))
    except (InputError, AttributeError, RuntimeError):  # another architecture, biases, weights of other names or sizes
        return None
    return stream if _same_scores(plain, replace(plain, stream=stream)) else None


def _may_branch(plain: Checkpoint) -> bool:
    """Whether the model gives rows that share tokens the scores they have alone."""
    window = getattr(plain.network.config, "sliding_window", None)
    layers = set(getattr(plain.network.config, "layer_types", None) or ("full_attention",))
    if plain.context < 12 or layers != {"full_attention"} or (window is not None and window < plain.context):
        return False
    return _same_scores(plain, replace(plain, branches=True))


def _same_scores(plain: Checkpoint, other: Checkpoint) -> bool:
    most = plain.network.config.vocab_size
    tokens = [(7 * at * at + 3 * at + 1) % most for at in range(12)]
    rows = [Row(tokens, 3), Row([*tokens[:6], *tokens[8:]], 2), Row([*tokens[:9], tokens[0], tokens[1]], 2)]
    try:
        shared = other.token_nats(rows)
    except Exception:  # whatever it cannot take: masks of four dimensions, positions, a head of its own
        return False
    pairs = zip(plain.token_nats(rows), shared, strict=True)
    return all(abs(a - b) < _SAME for one, other in pairs for a, b in zip(one, other, strict=True))


def _context(folder: Path, config: Any) -> int:
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        found = getattr(config, name, None)
        if isinstance(found, int) and found > 0:
            return found
    raise InputError(f"'{folder}': config.json has no max_position_embeddings, so how much it can read is not known.")


def _adds_start(tokenizer: Any, start: int) -> bool | None:
    """Whether the tokenizer, asked for special tokens, puts the start token before a text; None where it does otherwise."""
    added = tokenizer.encode("a", add_special_tokens=True).ids
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    if added == plain:
        return False
    return True if added == [start, *plain] else None


def _start_token(folder: Path, tokenizer: Any, start: Start) -> tuple[int, str]:
    # From the file, not from the loaded config: transformers fills a missing bos_token_id with 1, some ordinary token.
    config = json.loads((folder / "config.json").read_text("utf-8"))
    special = {token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special}
    for name in ("bos", "eos") if start == "auto" else (start,):
        given = config.get(f"{name}_token_id")
        for token in given if isinstance(given, list) else [given]:
            if token in special:
                return token, name
    raise InputError(
        f"'{folder}': no start token ({start}). config.json has bos_token_id {config.get('bos_token_id')} and eos_token_id "
        f"{config.get('eos_token_id')}; the special tokens of tokenizer.json are {sorted(special) or 'none'}. A text's first "
        "token cannot be predicted from nothing: name the token that stood between documents as eos_token_id."
    )
