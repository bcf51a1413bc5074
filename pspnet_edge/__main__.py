"""``python -m pspnet_edge``."""

from .cli.main import main

main()
