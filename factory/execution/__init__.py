"""The only code that knows processes or machines."""
