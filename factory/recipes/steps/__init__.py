"""One module per kind of dataset: the tasks that make it, and how their results become a manifest."""
