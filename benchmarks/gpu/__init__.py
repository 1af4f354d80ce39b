"""What rltrain does on a GPU: whether it is right, whether it waits, how fast it is."""
