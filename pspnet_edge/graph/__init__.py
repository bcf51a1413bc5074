"""The ONNX graph: export, precision, calibration, Q/DQ placement. Torch is used in ``export`` alone."""
