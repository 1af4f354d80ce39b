"""Tasks that test one ability each: exploring, discounting, choosing; and probes that find bugs in agents."""


def register() -> None:
    """Registers the family."""
