"""What is on disk: files that others may have made, JSON with checksums, and values that read back equal."""
