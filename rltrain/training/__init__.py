"""Runs training: the setup, the training loop, and its metrics."""
