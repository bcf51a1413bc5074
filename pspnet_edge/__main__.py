"""``python -m pspnet_edge``, and what the command ``pspnet-edge`` starts."""

import sys

from .cli.ending import Ended, die_quietly, end_on_signals


def main() -> None:
    """Run the command line; a signal while it is being loaded ends it like one that comes later."""
    try:
        with end_on_signals():
            from .cli.main import main

            main()
    except Ended as end:
        print(f"pspnet-edge: {end.words}", file=sys.stderr)
        raise
    finally:
        die_quietly()


if __name__ == "__main__":
    main()
