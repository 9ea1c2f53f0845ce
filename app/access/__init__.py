"""Who may do what, and how much of it: API keys, name spaces, quotas."""
