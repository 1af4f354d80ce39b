"""Sweeps: the search for hyperparameters, on Optuna."""
