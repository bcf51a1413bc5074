"""PSPNet segmentation for embedded GPUs: train, export, calibrate, build INT8/FP16 engines, run a camera loop."""

__version__ = "0.1.0"
