"""How the parts of a server are put together, started and stopped."""
