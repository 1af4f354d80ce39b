"""Checks of environments, and the package template of ``rltrain new-env``."""
