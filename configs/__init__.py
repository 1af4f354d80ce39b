"""Tuned hyperparameters: ``<agent>/<environment>.yaml``, and ``<agent>/default.yaml`` for the rest."""
