"""Where adapter sets are: on disk (store), known by name (catalog), in memory (cache, loader, manager)."""
