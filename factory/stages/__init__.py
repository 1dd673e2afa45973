"""The catalogue: everything one adds, one file per stage, in the order of the pipeline."""
