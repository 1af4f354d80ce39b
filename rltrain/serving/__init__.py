"""Serves a policy over HTTP: ``rltrain serve MODEL``. It connects to nobody, and writes no file."""
