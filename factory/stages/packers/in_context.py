"""In-context pretraining (arXiv:2310.10638): related documents stand together, so that what stands before helps.

Documents are directions (`factory.stages.embeddings`), an edge joins two of which one is among the `neighbours` nearest of
the other, and a walk visits each once: the nearest not visited, else the one with the fewest edges left. In this order
they are cut every `context` tokens like `concatenate`, and the sequences are shuffled, since a batch of one topic would be a
biased step. A sequence attends over its documents: that is the point, and `document_mask` takes it away.

Documents more alike than `max_similarity` are not neighbours: what repeats the text before it teaches copying. Up to 20,000
documents are compared with all others, more with those of the `probes` nearest clusters. `model` and its settings are those
of `semdedup`; `hashed` weighs words by the very documents that are ordered. Copies of a document are one pass apart.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import Field

from factory.core.errors import FactoryError
from factory.core.packing import Integers, Packer, PackerSettings, Texts, cut
from factory.core.registry import register
from factory.core.stage import Paths
from factory.stages.embeddings import HASHED, Encode, EncoderSettings, hashed_encoder, model_files, model_packages
from factory.stages.embeddings import transformer_encoder as transformer

if TYPE_CHECKING:
    from factory.kernels.vectors import Units

_BATCH = 1024


class InContext(PackerSettings, EncoderSettings):
    neighbours: int = Field(default=10, ge=1, le=256)
    max_similarity: float = Field(default=0.95, gt=0, le=1)
    probes: int = Field(default=8, ge=1, le=256)


@register("in_context", version=1, config=InContext, paths=model_files, packages=model_packages)
def in_context(config: InContext, paths: Paths | None = None) -> Packer:
    def arrange(texts: Texts, seed: int) -> Integers:
        import numpy as np

        from factory.kernels.neighbours import nearest_neighbours, walk

        units = encode(config, paths, texts)
        found, cosines = nearest_neighbours(
            units, config.neighbours, most=config.max_similarity, probes=config.probes, seed=seed
        )
        places = np.empty(len(units), dtype=np.int64)
        places[walk(found, cosines)] = np.arange(len(units))
        return places

    return Packer(pack=lambda lengths, context, seed: cut(lengths, context), arrange=arrange)


def encode(config: InContext, paths: Paths | None, texts: Texts) -> "Units":
    """The directions of all texts."""
    import numpy as np

    encoder: Encode
    if config.model == HASHED:
        from factory.kernels.hashed_words import BUCKETS, bucket_weights, document_frequencies
        from factory.kernels.text import view_text

        seen, count = np.zeros(BUCKETS, dtype=np.int64), 0
        for part in in_parts(texts()):
            seen += document_frequencies(view_text(part))
            count += len(part)
        encoder = hashed_encoder(bucket_weights(seen, count))
    else:
        encoder = transformer(config, paths or {})
    made = [encoder(part)[0] for part in in_parts(texts())]
    if not made:
        raise FactoryError("packing: in_context has no documents to put in order.")
    return np.concatenate(made)


def in_parts(texts: Iterable[pa.Array]) -> Iterator[pa.Array]:
    for held in texts:
        for start in range(0, len(held), _BATCH):
            yield held.slice(start, _BATCH)
