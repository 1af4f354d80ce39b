"""Other libraries' faces of our environments, and ours of theirs."""
