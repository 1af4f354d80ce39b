"""The process: what it does first, whether a signal has asked it to stop, and threads that take turns in it."""
