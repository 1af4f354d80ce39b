"""Versions of policies in a folder, with aliases, a gate before promotion, and rollback: ``rltrain models``."""
