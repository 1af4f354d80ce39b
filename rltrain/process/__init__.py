"""The process: what it does first, and whether a signal has asked it to stop."""
