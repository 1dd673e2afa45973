"""Clusters of documents as domains, where nobody has labelled any: what texts are about, by their vectors.

The first step of CLIMB (arXiv:2504.13161): a vector for each text (`factory.stages.embeddings`), spherical k-means into `fine`
clusters, and these put together to `clusters`. CLIMB merges by distance, which can chain a continuum into one giant; here a
merge that would put more than `max_share` of the sample's bytes into one cluster is left out, so that none ever has a larger
share. k-means finds topics, hardly formats (arXiv:2502.10341, section 5).

All is learned from the first snapshot; later documents are put to the nearest of the same centroids. `label` is `c00` for the
largest cluster, and so on; `fine` names the fine cluster below it (`c00/0123`); `nearness` is the cosine with its centroid. The
metrics have a card of each cluster: its size, its words and how alike its documents are. To prune clusters by another
score, look at the cards and leave labels out with a filter (`one_of`).
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import Field, model_validator

from factory.core.errors import FactoryError
from factory.core.registry import register
from factory.core.stage import BatchFunction, Paths, Training
from factory.stages.embeddings import (
    LearningSettings,
    in_batches,
    kept_encoder,
    learn_encoder,
    model_files,
    model_packages,
    samples,
)

if TYPE_CHECKING:
    from factory.kernels.vectors import Integers, Units

COLUMNS = {"label": pa.string(), "fine": pa.string(), "nearness": pa.float32()}
MODEL_FILE = "clusters.safetensors"

_FINE = 20  # documents of the sample a fine cluster, if `fine` does not say
_MOST_FINE = 1000  # CLIMB's; twice as many were worse there
_SPLITS = 8  # times that fine clusters above the cap are split
_TERMS = 12  # of a card
_TERM_WORDS = 500  # of each document, that terms are looked for in


class Settings(LearningSettings):
    """`fine` is how many fine clusters k-means is asked for (default: a twentieth of the documents, 1,000 at most)."""

    documents: int = Field(default=20_000, ge=1, le=500_000)
    fine: int | None = Field(default=None, ge=4, le=1 << 14)
    clusters: int = Field(default=16, ge=4, le=1000)
    max_share: float = Field(default=0.15, gt=0, le=0.25)

    @model_validator(mode="after")
    def _has_room(self) -> "Settings":
        if self.clusters * self.max_share < 1 - 1e-9:
            raise ValueError(
                f"{self.clusters} clusters of at most {self.max_share:g} hold {self.clusters * self.max_share:.0%} of the "
                "tokens; ask for more clusters, or raise `max_share`"
            )
        return self


def fit(
    config: Settings, texts: Mapping[str, list[str]], directory: str, seed: int, paths: Paths | None = None
) -> dict[str, Any]:
    """The fine clusters' centroids, and the cluster each belongs to."""
    import numpy as np
    from safetensors.numpy import save_file

    from factory.kernels.agglomeration import merge_balanced, summed

    sample = sorted(text for source in config.sources for text in texts.get(source, []))
    encode, tensors = learn_encoder(config, sample, paths)
    pairs = list(in_batches(sample, encode))
    filled = np.concatenate([flags for _, flags in pairs]) if pairs else np.zeros(0, np.bool_)
    if not filled.any():
        raise FactoryError(f"clusters: no document of {', '.join(config.sources)} has words to learn from.")
    units = np.concatenate([made[flags] for made, flags in pairs])
    kept = [text for text, flag in zip(sample, filled.tolist(), strict=True) if flag]
    sizes = np.array([len(text.encode()) for text in kept], np.int64)
    centroids, number, nearness = _fine_clusters(config, units, sizes, seed)
    masses = np.bincount(number, weights=sizes, minlength=len(centroids)).astype(np.int64)
    group = merge_balanced(summed(units, number, len(centroids)), masses, config.clusters, config.max_share)
    save_file({**tensors, "centroids": centroids, "group": group}, f"{directory}/{MODEL_FILE}")
    cards = _cards(kept, sizes, group[number], nearness)
    return {
        "documents": len(kept),
        "fine": len(centroids),
        "clusters": len(cards),
        "largest_share": max(card["share"] for card in cards.values()),
        "inertia": float(np.mean(1.0 - nearness)),
        "cards": cards,
    }


TRAINING = Training(file=MODEL_FILE, samples=samples, fit=fit)


@register(
    "clusters",
    version=1,
    reads=("text",),
    writes=COLUMNS,
    config=Settings,
    train=TRAINING,
    paths=model_files,
    packages=model_packages,
)
def clusters(config: Settings, model_path: str, paths: Paths | None = None) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from factory.kernels.vectors import nearest_centroids

    try:
        found = load_file(model_path)
        centroids, group = found["centroids"], found["group"]
        encode = kept_encoder(config, found, paths)
    except (OSError, SafetensorError, KeyError) as error:
        raise FactoryError(f"{model_path} is no model of clusters that this factory made: {error}") from error
    labels = pa.array([_label(int(place), int(group.max()) + 1) for place in group], pa.string())
    width = len(str(len(group) - 1))
    names = pa.array([f"{label}/{place:0{width}}" for place, label in enumerate(labels.to_pylist())], pa.string())

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        units, filled = encode(batch.column("text"))
        number, nearness = nearest_centroids(units, centroids)
        fine = pa.array(number, pa.int64(), mask=~filled)
        columns = [labels.take(fine), names.take(fine), pa.array(nearness.astype(np.float32), mask=~filled)]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score


def _fine_clusters(config: Settings, units: "Units", sizes: "Integers", seed: int) -> tuple[Any, Any, Any]:
    """Centroids, and of each vector the nearest one and its cosine; fine clusters above the cap are split further."""
    import numpy as np

    from factory.kernels.vectors import nearest_centroids, spherical_kmeans

    wanted = config.fine or min(_MOST_FINE, max(2 * config.clusters, len(units) // _FINE))
    centroids = spherical_kmeans(units, wanted, config.rounds, seed)
    limit = config.max_share * float(sizes.sum())
    for turn in range(_SPLITS + 1):
        number, nearness = nearest_centroids(units, centroids)
        masses = np.bincount(number, weights=sizes, minlength=len(centroids))
        above = np.flatnonzero(masses > limit)
        if not len(above):
            return centroids, number, nearness
        if turn < _SPLITS:
            halves = [spherical_kmeans(units[number == place], 2 + turn, config.rounds, seed) for place in above]
            centroids = np.concatenate([np.delete(centroids, above, axis=0), *halves])
    raise FactoryError(
        f"clusters: {masses.max() / sizes.sum():.1%} of the sample's bytes are one document, or documents that cannot be told "
        f"apart; `max_share` allows {config.max_share:.1%}. Learn from more documents, or from a source without duplicates."
    )


def _label(place: int, count: int) -> str:
    return f"c{place:0{max(2, len(str(count - 1)))}}"


def _cards(texts: list[str], sizes: "Integers", group: "Integers", nearness: Any) -> dict[str, dict[str, Any]]:
    """Of each cluster its size in the sample, how near its documents are to their centroids, and the words that tell it."""
    words = [
        {
            word
            for word in text.casefold().split(None, _TERM_WORDS)[:_TERM_WORDS]
            if 2 < len(word) < 30 and word.isalpha()
        }
        for text in texts
    ]
    everywhere = Counter(word for own in words for word in own)
    cards = {}
    count = int(group.max()) + 1
    for place in range(count):
        own = [row for row, number in enumerate(group.tolist()) if number == place]
        if not own:
            continue
        inside = Counter(word for row in own for word in words[row])
        # What knowing the cluster adds to what is known of a word (its part of the Kullback-Leibler divergence).
        excess = {
            word: found * math.log(found / len(own) / (everywhere[word] / len(texts)))
            for word, found in inside.items()
            if found > 1 or len(own) == 1
        }
        cards[_label(place, count)] = {
            "documents": len(own),
            "share": float(sizes[own].sum() / sizes.sum()),
            "mean_bytes": float(sizes[own].mean()),
            "mean_nearness": float(nearness[own].mean()),
            "terms": sorted(excess, key=lambda word: (-excess[word], word))[:_TERMS],
        }
    return cards
