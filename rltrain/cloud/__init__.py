"""Before a run: what it will take here and on other machines, and files by which the platforms train it."""
