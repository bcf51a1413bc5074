"""One check in this process: ``python -m pspnet_edge.selftest NAME``; its outcome is the last line, as JSON."""

import json
import sys

from .checks import CHECKS, run_check

if __name__ == "__main__":
    print("\n" + json.dumps(run_check(CHECKS[sys.argv[1]]).to_dict()))
