"""The composition of a server: its parts put together, started and stopped."""
