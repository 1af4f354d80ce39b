"""Rewards that are learned: an ensemble of networks fitted to preferences between clips."""
