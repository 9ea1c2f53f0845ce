"""The playground: its page and that page's files."""
