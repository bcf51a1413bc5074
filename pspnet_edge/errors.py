"""The exception tree. The command line catches ``PspnetEdgeError`` once and prints its one sentence.

PspnetEdgeError
├── DataError           a data set, image, mask or calibration list that cannot be used
├── ModelError          a checkpoint or an ONNX file that is not what it should be
├── CalibrationError    a calibration table that is damaged, stale or made for another model
├── BuildError          an engine that could not be built
├── EngineError         an engine that cannot be opened or run
├── SourceError         a camera, video or folder that gives no frames
├── OutputError         a place that cannot be written
├── OptionError         values of options that do not fit together
└── MissingPackage      an optional package that this command needs
"""

from __future__ import annotations


class PspnetEdgeError(Exception):
    """Something the user can mend; the message is one sentence that says what is wrong and how to mend it."""


class DataError(PspnetEdgeError):
    """A data set, image, mask or calibration list that cannot be used."""


class ModelError(PspnetEdgeError):
    """A checkpoint or an ONNX file that is not what it should be."""


class CalibrationError(PspnetEdgeError):
    """A calibration table that is damaged, stale or made for another model."""


class BuildError(PspnetEdgeError):
    """An engine that could not be built."""


class EngineError(PspnetEdgeError):
    """An engine that cannot be opened or run."""


class SourceError(PspnetEdgeError):
    """A camera, video or folder that gives no frames."""


class OutputError(PspnetEdgeError):
    """A place that cannot be written."""


class OptionError(PspnetEdgeError):
    """Values of options that do not fit together."""


class MissingPackage(PspnetEdgeError):
    """An optional package that this command needs and that is not installed."""
