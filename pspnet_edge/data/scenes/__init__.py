"""A procedural street drive: a camera for machines that have none, and a data set without files."""

from .drive import FRAMES_PER_SECOND, SIZE_HW, Drive, Frame

__all__ = ["FRAMES_PER_SECOND", "SIZE_HW", "Drive", "Frame"]
