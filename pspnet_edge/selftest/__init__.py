"""Checks of a machine's GPU path, cameras and runtimes that call the product's own code."""
