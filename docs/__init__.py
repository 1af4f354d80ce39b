"""The documentation, and in ``docs.site`` the program that makes a site of it."""
