"""The network family in PyTorch, and its checkpoints."""
