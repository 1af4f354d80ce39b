"""Deep Q-learning (Mnih et al. 2015, "Human-level control through deep reinforcement learning") and extensions."""
