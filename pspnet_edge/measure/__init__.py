"""What an engine does on this machine: mIoU, latency, memory and power, each measured in its own process."""
