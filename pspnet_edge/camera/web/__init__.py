"""The live view in a browser, for boards without a display, and the figures that monitoring reads."""

from .view import WebView

__all__ = ["WebView"]
