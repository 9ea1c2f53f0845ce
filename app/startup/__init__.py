"""Before the first request: settings and where they come from, what can be known to be wrong, the port."""
