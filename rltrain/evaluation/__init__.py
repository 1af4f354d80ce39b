"""Playing episodes with a policy: scores, baselines to compare with, films and learning curves."""
