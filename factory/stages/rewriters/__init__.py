"""Text made from text."""
