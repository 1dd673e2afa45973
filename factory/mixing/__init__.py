"""The arithmetic of mixtures: budgets, search, laws. Arrays in, arrays out; neither models nor files."""
