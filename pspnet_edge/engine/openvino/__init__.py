"""OpenVINO on x86 and ARM processors."""
