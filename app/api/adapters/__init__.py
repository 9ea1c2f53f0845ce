"""The API of adapter sets, /adapters."""
