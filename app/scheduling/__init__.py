"""Whose turn it is: admission, fair queues, costs."""
