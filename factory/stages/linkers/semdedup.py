"""Semantic duplicates: documents whose embeddings almost point the same way (SemDeDup, arXiv:2303.09540).

A document gets a vector (`factory.stages.embeddings`: `model: hashed`, or a local transformer) and the nearest of the
centroids that spherical k-means found in a sample of `sources`. The centroids are a trained model: it learns from the first
snapshot, and later ones are laid beside the same centroids. Documents are put in an order, and the similarity of each is
the largest cosine with one of its cluster that stands before it, whether or not that one is itself a duplicate. It is a
duplicate of that one if the similarity is above 1 - `epsilon`; or leave that to a rule that reads `max_similarity`.

Documents at the border of two clusters may be alike and lie on either side. `probes` is to how many clusters, its own and
the next nearest, a document is compared. SemDeDup's own is 1; the default finds most of what 1 misses for thrice the pairs.

`keep` is the order: `hard`, SemDeDup's, lets those farthest from the centroid stand first, `easy` those nearest to it,
`first` those of the earliest snapshot. Under scope `incremental` earlier snapshots stand before later ones whatever it
is, so that no verdict changes. `nearness`, the cosine with the centroid, is what SSL prototypes (D4, arXiv:2308.12284)
cut the highest of. Neither `keep` nor `epsilon` makes vectors or centroids again.

The vectors are whole numbers of 1/4000 and all that follows is exact: the same bytes however documents are cut into parts.
A document without words has no key and no neighbours.
"""

from collections.abc import Mapping
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

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

COLUMNS = {"keys": pa.list_(pa.uint64()), "vector": pa.list_(pa.int16()), "nearness": pa.float32()}
MODEL_FILE = "semdedup.safetensors"

_CLUSTER = 1000  # documents of the sample a cluster, if `clusters` does not say


class Settings(LearningSettings):
    clusters: int | None = Field(default=None, ge=1, le=1 << 20)
    probes: int = Field(default=3, ge=1, le=64)
    keep: Literal["hard", "easy", "first"] = "hard"
    epsilon: float = Field(default=0.1, ge=0, le=2)


def fit(
    config: Settings, texts: Mapping[str, list[str]], directory: str, seed: int, paths: Paths | None = None
) -> dict[str, Any]:
    """The centroids of the sample, and for `hashed` the weights of its words."""
    import numpy as np
    from safetensors.numpy import save_file

    from factory.kernels.vectors import gini, nearest_centroids, spherical_kmeans

    sample = [text for source in config.sources for text in texts.get(source, [])]
    encode, tensors = learn_encoder(config, sample, paths)
    units = np.concatenate([made[filled] for made, filled in in_batches(sample, encode)])
    if not len(units):
        raise FactoryError(f"semdedup: no document of {', '.join(config.sources)} has words to learn from.")
    wanted = config.clusters or max(1, len(units) // _CLUSTER)
    tensors["centroids"] = spherical_kmeans(units, wanted, config.rounds, seed)
    save_file(tensors, f"{directory}/{MODEL_FILE}")
    number, nearness = nearest_centroids(units, tensors["centroids"])
    sizes = np.bincount(number, minlength=len(tensors["centroids"]))
    return {
        "documents": len(units),
        "dimensions": int(units.shape[1]),
        "clusters": len(sizes),
        "empty_clusters": int((sizes == 0).sum()),
        "largest_cluster": int(sizes.max()),
        "size_gini": gini(sizes),
        "inertia": float(np.mean(1.0 - nearness)),
    }


TRAINING = Training(file=MODEL_FILE, samples=samples, fit=fit)


@register(
    "semdedup",
    version=1,
    reads=("text",),
    writes=COLUMNS,
    config=Settings,
    train=TRAINING,
    paths=model_files,
    packages=model_packages,
    links="neighbours",
    join_settings=("keep", "epsilon"),
)
def semdedup(config: Settings, model_path: str, paths: Paths | None = None) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from factory.kernels.hashing import key_column
    from factory.kernels.vectors import ranked_centroids

    try:
        found = load_file(model_path)
        centroids = found["centroids"]
        encode = kept_encoder(config, found, paths)
    except (OSError, SafetensorError, KeyError) as error:
        raise FactoryError(f"{model_path} is no model of semdedup that this factory made: {error}") from error

    def link(batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        units, filled = encode(text)
        numbers, cosines = ranked_centroids(units, centroids, config.probes)
        offsets = np.arange(len(units) + 1, dtype=np.int32) * units.shape[1]
        vectors = pa.ListArray.from_arrays(offsets, units.reshape(-1), mask=pa.array(~filled))
        columns = [
            key_column(numbers.astype(np.uint64), filled, text.is_valid().to_numpy(zero_copy_only=False)),
            vectors,
            pa.array(cosines[:, 0].astype(np.float32), mask=~filled),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return link
