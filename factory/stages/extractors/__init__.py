"""From bytes as fetched to text; a record that cannot be read gets an error, never an exception."""
