"""Implicit Q-learning (Kostrikov et al. 2021, arXiv:2110.06169), and AWAC as an option."""
