"""/adapters."""
