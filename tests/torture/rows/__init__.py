"""The rows, one a file, each with a global ``ROW``."""
