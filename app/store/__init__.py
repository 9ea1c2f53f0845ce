"""The store: adapter files on disk, and small documents that say which of them are current."""
