"""Finding what is wrong with a machine before a camera runs on it."""
