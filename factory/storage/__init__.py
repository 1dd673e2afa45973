"""The only code that touches the bytes of the store."""
