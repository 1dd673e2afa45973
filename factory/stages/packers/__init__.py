"""Documents to training sequences."""
