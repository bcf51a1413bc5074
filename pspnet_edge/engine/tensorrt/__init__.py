"""TensorRT and TensorRT-RTX: building plans, checking them, running them."""
