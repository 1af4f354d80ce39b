"""Tuned hyperparameters: ``<agent>/<namespace>-<environment>.yaml``, ``<agent>/<namespace>.yaml``, ``default.yaml``."""
