"""Scheduling: admission, fair queues, costs."""
