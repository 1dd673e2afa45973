"""How many epochs of each source a training sees."""
