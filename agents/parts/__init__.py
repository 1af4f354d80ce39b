"""What agents are made of: networks, distributions, returns, rollouts, replay, optimizers."""
