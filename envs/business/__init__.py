"""Decisions of companies: stock, prices, servers, energy, money, machines."""


def register() -> None:
    """Registers the family."""
