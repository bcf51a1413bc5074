"""The entry point: gathers the commands and turns errors into one sentence and an exit status."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from .. import __version__
from ..errors import PspnetEdgeError
from . import benchmark, build, calibrate, data, doctor, evaluate, export, import_, models, run, train

app = typer.Typer(
    name="pspnet-edge",
    help="PSPNet segmentation on embedded GPUs: train, export, calibrate, build INT8/FP16 engines, run a camera loop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (models, data, train, import_, export, calibrate, build, evaluate, benchmark, run, doctor):
    command.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 failed with one sentence, 2 wrong usage, 130 interrupted."""
    try:
        app()
    except PspnetEdgeError as error:
        if "--json" in sys.argv[1:]:
            print(json.dumps({"error": str(error)}))
        print(f"pspnet-edge: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("pspnet-edge: interrupted", file=sys.stderr)
        sys.exit(130)
