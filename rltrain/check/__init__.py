"""Whether environments keep what they promise, and a package to start a new one from."""
