"""Access control: API keys, name spaces, quotas, rates."""
