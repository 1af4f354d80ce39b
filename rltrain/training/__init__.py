"""From a configuration to a finished run: setting up, the training loop, and its metrics."""
