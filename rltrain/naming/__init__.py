"""What people call things: environments by module, habits from other libraries, and why a name cannot be used."""
