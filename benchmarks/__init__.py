"""Measurements behind the figures in the documentation, each a command that anyone can run."""
