"""The token unit of an experiment: a byte-level BPE made from given texts, or any Hugging Face tokenizer, under one policy.

Texts come in as Arrow arrays, ids leave as one flat array with lengths. Encoding loses nothing (no normaliser, no prefix
space), text never becomes a control token, and documents are framed by the policy alone: what a tokenizer's own
post-processor would add is left out. Ids are those of the `tokenizers` library; where `factory.training.byte_pairs` can read
the tokenizer they come from there, some thirty times as fast.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from factory.core.errors import FactoryError, InputError
from factory.training.byte_pairs import BytePairs, Unreadable

END_OF_TEXT = "<|endoftext|>"
# What well-known tokenizers call them, for a bare tokenizer.json without a tokenizer_config.json beside it.
EOS_NAMES = (END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>")
BOS_NAMES = ("<s>", "<|begin_of_text|>", "<bos>", END_OF_TEXT)
MAX_TOKEN_CHARACTERS = 32  # keeps rulers of ===== and ----- from becoming words of a small vocabulary

Ids = npt.NDArray[Any]


def train_tokenizer(texts: Iterable[str], *, vocab_size: int, path: str | Path) -> dict[str, Any]:
    """Write a tokenizer.json to `path`; the same texts give the same bytes, and nothing about it is random.

    Digits stand alone, so that numbers are spelled the same way everywhere. Returns `vocabulary` (smaller than asked when
    the texts have no more pairs to merge) and `sha256`.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocab_size < len(alphabet) + 1:
        raise FactoryError(
            f"tokenizer: {vocab_size} entries asked, at least {len(alphabet) + 1} needed (bytes and end of text)."
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(END_OF_TEXT, special=True, normalized=False)],
        initial_alphabet=sorted(alphabet),
        max_token_length=MAX_TOKEN_CHARACTERS,
        show_progress=False,
    )
    seen = _Counted(texts)
    tokenizer.train_from_iterator(seen, trainer)
    if not seen.count:
        raise InputError(
            "tokenizer: there is no text to learn from. Look at `factory funnel` for the rule that drops it all."
        )
    data = tokenizer.to_str(pretty=False).encode()
    path = Path(path)
    temporary = path.with_name(path.name + ".partial")
    temporary.write_bytes(data)
    os.replace(temporary, path)
    return {"vocabulary": tokenizer.get_vocab_size(), "sha256": hashlib.sha256(data).hexdigest()}


class Encoder:
    """A tokenizer and the policy of what stands around a document; refuses at once what would be wrong later.

    `path` is a tokenizer.json, a folder that holds one, or a file of `name_special_tokens`. `dtype` is what token files
    should hold; without one the smallest that fits (uint16, else int32: Megatron's format has no uint32).
    """

    def __init__(self, path: str | Path, *, bos: bool = False, eos: bool = True, dtype: str | None = None) -> None:
        self.path = _tokenizer_file(path)
        self._data, named = _unpacked(self.path.read_bytes())
        self.sha256 = hashlib.sha256(self._data).hexdigest()
        try:
            self._tokenizer: Any = Tokenizer.from_buffer(self._data)
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"{self.path} is not a tokenizer.json: {error}") from error
        # A file may carry the settings of somebody's last call; none of them is ours.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        if getattr(self._tokenizer.model, "dropout", None):
            raise FactoryError(
                f"{self.path} drops merges at random (dropout): its ids differ from run to run. Set it to 0."
            )
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        self.vocabulary = max(vocabulary.values()) + 1
        self.bos, self.eos = bos, eos
        names = named or _special_names(self.path, vocabulary)
        self.bos_token, self.eos_token = names["bos_token"], names["eos_token"]
        self.bos_id = vocabulary.get(self.bos_token or "")
        self.eos_id = vocabulary.get(self.eos_token or "")
        self.dtype = np.dtype(self._checked_dtype(dtype))
        self._check_policy()
        added = self._tokenizer.get_added_tokens_decoder()
        self._check_control_tokens({token.content: number for number, token in added.items() if token.special})
        self.library_alone: str | None = None  # why the library has to encode everything
        self._fast: BytePairs | None = None
        try:
            self._fast = BytePairs(self._data, [token.content for token in added.values() if not token.special])
        except Unreadable as reason:
            self.library_alone = str(reason)

    def encode(self, texts: pa.Array) -> tuple[Ids, npt.NDArray[np.int64]]:
        """All ids of all texts, one text after the other, and how many each has; framed by the policy."""
        if texts.null_count:
            raise ValueError("a null text is a record that failed and has no tokens: leave it out")
        if self._fast is None:
            return self._encode_by_library(texts)
        settled = self._fast.settled(texts)
        begin, end = self.bos_id if self.bos else None, self.eos_id if self.eos else None
        ids, lengths = self._fast.encode(texts, settled, begin=begin, end=end, dtype=self.dtype)
        others = np.flatnonzero(~settled)
        if not len(others):
            return ids, lengths
        more, counts = self._encode_by_library(texts.take(pa.array(others)))
        places = np.cumsum(lengths)[others]
        lengths[others] = counts
        pieces: list[Ids] = []
        for piece, own in zip(np.split(ids, places), [*np.split(more, np.cumsum(counts)[:-1]), more[:0]], strict=True):
            pieces += [piece, own]
        return np.concatenate(pieces), lengths

    def _encode_by_library(self, texts: pa.Array) -> tuple[Ids, npt.NDArray[np.int64]]:
        encodings = self._tokenizer.encode_batch_fast(texts.to_pylist(), add_special_tokens=False)
        lengths = np.fromiter((len(encoding) for encoding in encodings), np.int64, len(encodings)) + self.bos + self.eos
        ids = np.empty(int(lengths.sum()), dtype=self.dtype)
        ends = np.cumsum(lengths)
        if self.bos:
            ids[ends - lengths] = self.bos_id
        if self.eos:
            ids[ends - 1] = self.eos_id
        for encoding, end, length in zip(encodings, ends.tolist(), lengths.tolist(), strict=True):
            ids[end - length + self.bos : end - self.eos] = encoding.ids
        return ids, lengths

    def decode(self, ids: Ids) -> str:
        text: str = self._tokenizer.decode(ids.tolist(), skip_special_tokens=False)
        return text

    def contract(self) -> dict[str, Any]:
        """What a token file, a model and an evaluation have to agree on."""
        return {
            "tokenizer": self.sha256,
            "vocabulary": self.vocabulary,
            "dtype": self.dtype.name,
            "bos": self.bos,
            "eos": self.eos,
            "bos_id": self.bos_id,
            "eos_id": self.eos_id,
            "bos_token": self.bos_token,
            "eos_token": self.eos_token,
        }

    def check_round_trip(self, documents: Iterable[tuple[str, str]]) -> int:
        """Encode and decode (name, text) pairs; raises FactoryError naming the first that comes back changed."""
        count = 0
        for name, text in documents:
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
            back = self._tokenizer.decode(ids, skip_special_tokens=False)
            if back != text:
                at = next(
                    (i for i, pair in enumerate(zip(text, back, strict=False)) if len(set(pair)) > 1),
                    min(len(text), len(back)),
                )
                raise FactoryError(
                    f"tokenizer: document {name} changes at character {at:,}: {text[at : at + 20]!r} comes back as "
                    f"{back[at : at + 20]!r}. Use a byte-level tokenizer without a normaliser."
                )
            count += 1
        return count

    def save(self, directory: str | Path) -> None:
        """The files `AutoTokenizer.from_pretrained` needs, so that it gives the ids that `encode` gives."""
        directory = Path(directory)
        (directory / "tokenizer.json").write_bytes(self._data)
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self.bos_token,
            "eos_token": self.eos_token,
            "clean_up_tokenization_spaces": False,
        }
        (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n")

    @cached_property
    def _added_by_itself(self) -> list[int]:
        """Ids the tokenizer's own post-processor puts around a text."""
        plain = self._tokenizer.encode("a", add_special_tokens=False).ids
        framed = self._tokenizer.encode("a", add_special_tokens=True).ids
        return [token for token in framed if token not in plain]

    def _check_control_tokens(self, controls: dict[str, int]) -> None:
        """Text that spells a control token stays text; some models have them among their words."""
        named = {
            token: number for token, number in ((self.bos_token, self.bos_id), (self.eos_token, self.eos_id)) if token
        }
        controls = {**controls, **{token: number for token, number in named.items() if number is not None}}
        framed = [text for token in controls for text in (token, f" {token}", f"a{token}a")]
        found = self._tokenizer.encode_batch_fast(framed, add_special_tokens=False)
        for at, (token, number) in enumerate(controls.items()):
            if any(number in encoding.ids for encoding in found[3 * at : 3 * at + 3]):
                raise FactoryError(
                    f"tokens: in {self.path}, text that says '{token}' becomes that control token ({number}), so a page could "
                    'end a document where it likes. Mark it "special": true among the added_tokens and take it out of the '
                    "model's own words, or use another tokenizer."
                )

    def _checked_dtype(self, asked: str | None) -> str:
        if asked is None:
            return "uint16" if self.vocabulary <= 65_535 else "int32"
        if asked not in ("uint16", "int32"):
            raise FactoryError(f"tokens: dtype '{asked}' is not one of uint16, int32.")
        if asked == "uint16" and self.vocabulary > 65_535:
            raise FactoryError(
                f"tokens: uint16 asked, and the vocabulary has {self.vocabulary:,} entries (65,535 fit). Ask for int32."
            )
        return asked

    def _check_policy(self) -> None:
        for wanted, name, found in (("bos", self.bos_token, self.bos_id), ("eos", self.eos_token, self.eos_id)):
            if getattr(self, wanted) and found is None:
                specials = sorted(t.content for t in self._tokenizer.get_added_tokens_decoder().values() if t.special)
                what = f"'{name}' is not in its vocabulary" if name else "it names none"
                raise FactoryError(
                    f"tokens: {wanted}: true asked of {self.path}, and {what}. Special tokens it has: "
                    f"{', '.join(specials) or 'none'}. Set {wanted}: false, or name it in tokenizer_config.json."
                )
            if not getattr(self, wanted) and found is not None and found in self._added_by_itself:
                raise FactoryError(
                    f"tokens: {self.path} puts '{name}' around every text itself, and the policy says {wanted}: false: models "
                    f"would be evaluated with a token they never saw. Set {wanted}: true (it is still written once)."
                )
        if self.bos and self.eos and self.bos_id == self.eos_id:
            raise FactoryError(
                f"tokens: '{self.eos_token}' is BOS and EOS, so two of them would stand between documents. Set bos: false: the "
                "EOS of a document is the beginning of the next."
            )


def special_names(settings: str | Path) -> dict[str, str | None]:
    """What a tokenizer_config.json calls `bos_token` and `eos_token`."""
    try:
        config = json.loads(Path(settings).read_bytes())
        named = {key: config.get(key) for key in ("bos_token", "eos_token")}
    except (ValueError, AttributeError) as error:
        raise InputError(f"{settings} is not a tokenizer_config.json: {error}") from error
    return {key: value.get("content") if isinstance(value, dict) else value for key, value in named.items()}


def name_special_tokens(path: str | Path, names: dict[str, str | None], to: str | Path) -> None:
    """Write a tokenizer.json and what it calls `bos_token` and `eos_token` as one file, which `Encoder` reads."""
    data = Path(path).read_text(encoding="utf-8")
    described = {**dict.fromkeys(("bos_token", "eos_token")), **names, "tokenizer_json": data}
    Path(to).write_text(json.dumps(described), encoding="utf-8")


def fertility(encoder: Encoder, texts: pa.Array, groups: Sequence[str | None]) -> dict[str, dict[str, Any]]:
    """Bytes a token stands for, and tokens a word (between white space) takes, for each group of texts."""
    _, lengths = encoder.encode(texts)
    lengths = lengths - encoder.bos - encoder.eos
    bytes_of = pc.binary_length(texts).to_numpy()
    words = pc.list_value_length(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(texts))).to_numpy()
    found = {}
    names = np.array([group or "none" for group in groups], dtype=object)
    for name in sorted(set(names.tolist())):
        own = names == name
        tokens, size, count = (int(values[own].sum()) for values in (lengths, bytes_of, words))
        found[name] = {
            "documents": int(own.sum()),
            "tokens": tokens,
            "bytes_per_token": size / tokens if tokens else None,
            "tokens_per_word": tokens / count if count and tokens else None,
        }
    return found


class _Counted:
    """Iterates once over texts and knows afterwards how many there were with something in them."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts, self.count = texts, 0

    def __iter__(self) -> Any:
        for text in self._texts:
            self.count += bool(text)
            yield text


def _tokenizer_file(path: str | Path) -> Path:
    path = Path(path)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        held = ", ".join(sorted(p.name for p in path.iterdir())[:10]) if path.is_dir() else "nothing"
        raise InputError(
            f"{file} does not exist (found: {held}). A tokenizer is a tokenizer.json, or a folder that holds one."
        )
    return file


def _unpacked(data: bytes) -> tuple[bytes, dict[str, str | None] | None]:
    """A tokenizer.json, and the names that `name_special_tokens` put beside it."""
    if not data.lstrip()[:13].startswith(b'{"bos_token"'):
        return data, None
    described = json.loads(data)
    return described.pop("tokenizer_json").encode(), described


def _special_names(path: Path, vocabulary: dict[str, int]) -> dict[str, str | None]:
    """The BOS and EOS tokens: as tokenizer_config.json names them, else well-known names that exist."""
    settings = path.parent / "tokenizer_config.json"
    if settings.is_file():
        return special_names(settings)
    return {
        "bos_token": next((name for name in BOS_NAMES if name in vocabulary), None),
        "eos_token": next((name for name in EOS_NAMES if name in vocabulary), None),
    }
