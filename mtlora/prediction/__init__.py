"""One photo in, its maps out."""
