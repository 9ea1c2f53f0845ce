"""Backends: ways in which sets are resident on a device, behind one interface."""
