"""The two ways the work is cut: by snapshot as crawls arrive, by experiment as the recipe names them."""

import dagster as dg

from factory.recipes.recipe import Recipe

SNAPSHOT = "snapshot"

snapshots = dg.DynamicPartitionsDefinition(name=SNAPSHOT)

# What is made of all partitions of what it reads: an experiment of every snapshot, links of every earlier one.
every_partition = dg.AllPartitionMapping()


def experiments(recipe: Recipe) -> dg.StaticPartitionsDefinition:
    return dg.StaticPartitionsDefinition([experiment.label for experiment in recipe.experiments])


def on_every_partition(*keys: dg.AssetKey) -> list[dg.AssetDep]:
    return [dg.AssetDep(key, partition_mapping=every_partition) for key in keys]
