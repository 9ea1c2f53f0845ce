"""Thin handlers: parse, call, answer."""
