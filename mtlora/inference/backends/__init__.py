"""Backends: ways to hold and run adapter sets on a device, behind one interface."""
