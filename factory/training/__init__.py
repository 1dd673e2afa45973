"""Models we train: proxies that judge data. The only code, with evaluation and the scorers that need it, that imports torch."""
