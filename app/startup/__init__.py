"""Startup, before the first request: settings and their sources, preflight checks, the port."""
