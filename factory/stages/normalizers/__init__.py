"""Text to text, before anything is scored."""
