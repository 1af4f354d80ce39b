"""Tasks that cannot be solved without remembering."""


def register() -> None:
    """Registers the family."""
