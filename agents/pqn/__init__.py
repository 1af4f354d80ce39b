"""Parallelised Q-learning: no replay, no target network (Gallici et al. 2024, arXiv:2407.04811)."""
