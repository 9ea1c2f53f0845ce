"""Adapter sets on disk: files and the small documents that say which of them are current."""
