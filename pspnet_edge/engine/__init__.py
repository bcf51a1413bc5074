"""Engines: one contract, one runtime a file."""
