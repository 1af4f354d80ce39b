"""Run folders and checkpoints on disk, and policies loaded from them."""
