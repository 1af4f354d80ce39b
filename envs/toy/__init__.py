"""Small games with tables for rules, as Gymnasium has them."""


def register() -> None:
    """Registers the family."""
