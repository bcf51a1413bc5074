"""Data sets of labelling tools and other projects → a folder with images, masks, classes and splits."""

from .convert import FORMATS, Imported, import_dataset

__all__ = ["FORMATS", "Imported", "import_dataset"]
