"""Datasets of episodes: their format on disk, cards, checks, splits, and other formats that they come from or go to."""
