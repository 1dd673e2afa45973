"""A trained causal language model in Hugging Face layout, as something that scores rows of tokens.

Always float32, whatever the weights were saved in, so that batching changes scores by less than 1e-4 nats. Only
safetensors are read: a folder with pickled weights is refused.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from factory.core.errors import InputError
from factory.evaluation.likelihood import Row, RowScore

Start = Literal["auto", "bos", "eos"]

_LOGITS = {"cpu": 1 << 26, "cuda": 1 << 29}  # numbers in one batch of logits: 256 MiB, 2 GiB
_BATCH_TOKENS = {"cpu": 2048, "cuda": 1 << 16}


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

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def score(self, rows: Sequence[Row]) -> list[RowScore]:
        order = sorted(range(len(rows)), key=lambda at: len(rows[at].tokens), reverse=True)
        scores: list[RowScore | None] = [None] * len(rows)
        while order:
            width = len(rows[order[0]].tokens) - 1
            count = max(1, self.batch_tokens // width)
            batch, order = order[:count], order[count:]
            for at, score in zip(batch, self._score([rows[at] for at in batch], width), strict=True):
                scores[at] = score
        return [score for score in scores if score is not None]

    def _score(self, rows: list[Row], width: int) -> list[RowScore]:
        import torch

        fed = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        targets = torch.full((len(rows), width), -1, dtype=torch.long)
        for at, row in enumerate(rows):
            length = len(row.tokens) - 1
            fed[at, :length] = torch.tensor(row.tokens[:-1])
            mask[at, :length] = 1
            targets[at, length - row.scored : length] = torch.tensor(row.tokens[-row.scored :])
        fed, mask, targets = fed.to(self.device), mask.to(self.device), targets.to(self.device)
        with torch.inference_mode():
            logits = self.network(input_ids=fed, attention_mask=mask, use_cache=False).logits
            wanted = targets >= 0  # row by row, left to right: the order in which scores are dealt out below
            logits, wanted_targets = logits[wanted].float(), targets[wanted]
            nats = logits.logsumexp(-1) - logits.gather(1, wanted_targets[:, None])[:, 0]
            likeliest = logits.argmax(-1) == wanted_targets
        sizes = [row.scored for row in rows]
        losses, hits = nats.double().cpu().split(sizes), likeliest.cpu().split(sizes)
        return [RowScore(float(loss.sum()), bool(hit.all())) for loss, hit in zip(losses, hits, strict=True)]


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
    fits = max(1, _LOGITS[kind] // config.vocab_size)
    tokens = min(batch_tokens or _BATCH_TOKENS[kind], fits)
    return Checkpoint(network, tokenizer, device, token, token_is, config.max_position_embeddings, tokens)


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
        "token cannot be predicted from nothing."
    )
