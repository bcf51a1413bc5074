"""What a model is worth: mIoU, latency, and the reports made of them."""
