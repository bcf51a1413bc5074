"""The entry point: gathers the commands and turns errors into one sentence and an exit status."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import OptionError, PspnetEdgeError
from . import benchmark, build, calibrate, data, doctor, evaluate, export, import_, models, run, train
from .arguments import asked_for_json, command_at, option_of

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

# Typer brings its own click from 0.20 on; its public exceptions lead to the classes of whichever it uses.
_UsageError: Any = typer.BadParameter.__mro__[1]
_ClickError: Any = typer.BadParameter.__mro__[2]


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 failed with one sentence, 2 wrong usage, 130 interrupted."""
    arguments = sys.argv[1:]
    tree = typer.main.get_command(app)
    try:
        status = tree(arguments, prog_name="pspnet-edge", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except PspnetEdgeError as error:
        _fail(_in_words_of_the_command_line(error, tree, arguments), 1, asked_for_json(tree, arguments))
    except _ClickError as error:
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message(), end="", file=sys.stderr)  # rich has shown the help already
            sys.exit(2)
        usage = f"{context.command_path if context else 'pspnet-edge'} --help"
        problem = error.format_message().rstrip(".") or "wrong usage"
        status = 2 if isinstance(error, _UsageError) else 1
        wrong = PspnetEdgeError(problem[0].lower() + problem[1:], "see the usage", usage)
        _fail(wrong, status, asked_for_json(tree, arguments))
    except BrokenPipeError:
        # Whoever read the output has gone; what is still buffered must not fail a second time at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (OSError, MemoryError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        _fail(PspnetEdgeError(f"the system refused ({reason})"), 1, asked_for_json(tree, arguments))
    except (KeyboardInterrupt, typer.Abort):
        print("pspnet-edge: interrupted", file=sys.stderr)
        sys.exit(130)


def _fail(error: PspnetEdgeError, status: int, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": error.to_dict()}), flush=True)
    sentence = str(error).encode("utf-8", "backslashreplace").decode()
    print(f"pspnet-edge: {sentence}", file=sys.stderr)
    sys.exit(status)


def _in_words_of_the_command_line(error: PspnetEdgeError, tree: Any, arguments: list[str]) -> PspnetEdgeError:
    """The error with the option in place of the Python parameter that the library names."""
    if not isinstance(error, OptionError) or error.parameter is None:
        return error
    option = option_of(command_at(tree, arguments), error.parameter)
    return PspnetEdgeError(f"{option}: {error.problem}", error.fix, error.command)
