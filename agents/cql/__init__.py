"""Conservative Q-learning (Kumar et al. 2020, arXiv:2006.04779) for discrete actions."""
