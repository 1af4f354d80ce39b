"""What lies on disk of a run, and what is loaded from it."""
