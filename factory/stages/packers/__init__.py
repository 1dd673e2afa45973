"""Documents to training sequences: each returns a `factory.core.packing.Packer`, which sees lengths and no tokens."""
