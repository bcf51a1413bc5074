"""The network family in PyTorch, and its checkpoints."""

import contextlib

from ..lazy import load

# Before any module here imports timm, which would import Weights & Biases where it is installed: that takes half a
# second and leaves folders in the temporary one. Without timm they say themselves what is missing.
with contextlib.suppress(ImportError):
    load("timm")
