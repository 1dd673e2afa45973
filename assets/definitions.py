"""The code location `factory`: everything a recipe stands for, as Dagster shows and runs it."""

from assets.composition import compose
from assets.resources import read_settings

defs = compose(read_settings())
