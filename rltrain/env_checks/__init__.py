"""What the methods of a tensor environment owe, and when that is checked."""
