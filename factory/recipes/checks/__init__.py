"""One module for each section of a recipe: plain data in, checked values out; problems are reported, not raised."""
