"""The five games of MinAtar: Atari's ideas on ten by ten cells."""


def register() -> None:
    """Registers the family."""
