"""Between Dagster and the library: which datasets an asset and its partitions stand for, and what identifies their code.

documents[2026-10]  documents@2026-10            proxies[full]  proxies/full@nano-0, proxies/full@nano-1, …
scores/words[2026-10]  scores/words@2026-10      decisions[full]  decisions/full@2026-10, decisions/full@2026-11, …
"""

from collections.abc import Iterable, Mapping

import dagster as dg

import factory
from factory.core.errors import FactoryError, suggest
from factory.core.fingerprint import digest_all, fingerprint
from factory.recipes.graph import Node, build_graph
from factory.recipes.inputs import Inputs
from factory.recipes.recipe import Recipe
from factory.recipes.workspace import Outcome

SNAPSHOT_KINDS = ("documents", "scores", "keys", "encodings", "links")
EXPERIMENT_KINDS = ("decisions", "selection", "mixture", "tokens", "proxies", "evaluations")


def asset_key(node: Node) -> dg.AssetKey:
    return dg.AssetKey([node.kind] if node.kind in EXPERIMENT_KINDS or not node.label else [node.kind, node.label])


def partition_key(node: Node) -> str | None:
    """The snapshot or the experiment a dataset belongs to; None where it belongs to all."""
    if node.kind in EXPERIMENT_KINDS:
        return node.label
    return node.partition if node.kind in SNAPSHOT_KINDS else None


def node_names(
    graph: Mapping[str, Node], keys: Iterable[dg.AssetKey], partitions: Iterable[str] | None = None
) -> list[str]:
    """The datasets behind assets, of some partitions or of all. Raises FactoryError for a partition the recipe lacks."""
    wanted = set(keys)
    nodes = [node for node in graph.values() if asset_key(node) in wanted]
    if partitions is None:
        return [node.name for node in nodes]
    # An experiment that takes every document once has no selection where others of a recipe that only curates have one.
    known = {partition_key(node) for node in (graph.values() if nodes else ())}
    for partition in partitions:
        if partition not in known:
            raise FactoryError(
                f"'{partition}' is not in the recipe or its inputs any more.{suggest(partition, map(str, known))}"
            )
    return [node.name for node in nodes if partition_key(node) in set(partitions)]


def combined_digest(outcomes: Iterable[Outcome]) -> str:
    """The data version of an asset's partition: the digest of its dataset, or one over several."""
    digests = {outcome.node.name: outcome.manifest.digest for outcome in outcomes}
    if len(digests) == 1:
        return next(iter(digests.values()))
    return digest_all(f"{name}={digest}" for name, digest in sorted(digests.items()))


def code_versions(recipe: Recipe) -> dict[dg.AssetKey, str]:
    """What identifies the code and settings behind every asset, known without looking at any input."""
    anywhere: Inputs = {"any": {source.label: [] for source in recipe.sources}}
    try:
        nodes = build_graph(recipe, anywhere).values()
    except FactoryError:  # a model or task file is not there yet: running says so, looking must not fail
        return {}
    specs: dict[dg.AssetKey, dict[str, object]] = {}
    for node in nodes:
        specs.setdefault(asset_key(node), {})[node.name] = node.spec
    return {key: f"{factory.__version__}+{fingerprint(dict(own))[:12]}" for key, own in specs.items()}
