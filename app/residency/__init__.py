"""Adapter sets in memory: host cache, device cache, loader, and their budgets."""
