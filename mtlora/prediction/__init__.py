"""The library in a single call: one photo in, its maps out."""
