"""The entry point: gathers the commands and turns errors into one sentence and an exit status."""

from __future__ import annotations

import logging
import os
import sys
from copy import copy
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from .. import __version__
from ..errors import OptionError, PspnetEdgeError
from ..log import PRINTED, native_lines_logged, redacted, set_verbosity, start_log
from ..records import printable, to_json
from . import (
    adapt,
    benchmark,
    build,
    calibrate,
    data,
    deploy,
    doctor,
    evaluate,
    export,
    import_,
    models,
    pack,
    plan,
    run,
    selftest,
    train,
)
from .arguments import asked_for_json, command_at, meant_option, option_of, with_root
from .ending import Ended

app = typer.Typer(
    name="pspnet-edge",
    help="PSPNet segmentation on embedded GPUs: train, export, calibrate, build INT8/FP16 engines, run a camera loop.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    models,
    data,
    train,
    import_,
    adapt,
    export,
    calibrate,
    build,
    evaluate,
    benchmark,
    plan,
    run,
    pack,
    deploy,
    doctor,
    selftest,
):
    command.register(app)

_log = logging.getLogger(__name__)

# Typer brings its own click from 0.20 on; its public exceptions lead to the classes of whichever it uses.
_UsageError: Any = typer.BadParameter.__mro__[1]
_ClickError: Any = typer.BadParameter.__mro__[2]


def _verbose(count: int) -> None:
    if count:
        set_verbosity(count)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Annotated[
        int,
        typer.Option(
            "-v",
            "--verbose",
            count=True,
            callback=_verbose,
            show_default=False,
            help="Log to stderr what is done; -vv adds debug detail.",
        ),
    ] = 0,
) -> None:
    pass


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 failed with a sentence, 2 wrong usage, 128 + n ended by signal n."""
    _open_missing_streams()
    arguments = sys.argv[1:]
    tree = typer.main.get_command(_asked_of(app, arguments))
    _share_verbose(tree)
    _compact_help(tree)
    try:
        start_log()
        with native_lines_logged():
            # Only the command's name: options may hold secrets.
            _log.info("pspnet-edge %s, %s", __version__, next((word for word in arguments if word[:1] != "-"), "help"))
            _run(tree, arguments)
    except PspnetEdgeError as error:  # of the log itself
        _fail(error, 1, asked_for_json(tree, arguments))


def _plain(problem: str) -> str:
    """A sentence of Typer's about a value; since 0.29 it ends in one of pydantic's."""
    option, said, limit = problem.removeprefix("Invalid value for ").partition(": Input should be ")
    return f"{option} should be {limit.partition(', unable to parse')[0]}" if said else problem


def _asked_of(whole: typer.Typer, arguments: list[str]) -> typer.Typer:
    """The application with the named command alone, since making all of them takes longer than a short command does."""
    named = next((word for word in arguments if not word.startswith("-")), None)
    asked = copy(whole)
    asked.registered_commands = [command for command in whole.registered_commands if command.name == named]
    asked.registered_groups = [
        group for group in whole.registered_groups if group.typer_instance and group.typer_instance.info.name == named
    ]
    return asked if asked.registered_commands or asked.registered_groups else whole


def _open_missing_streams() -> None:
    """Where a standard stream was closed, put /dev/null: else the next file opened would get what is printed."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8"))


def _run(tree: Any, arguments: list[str]) -> None:
    try:
        status = tree(arguments, prog_name="pspnet-edge", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(status if isinstance(status, int) else 0)
    except PspnetEdgeError as error:
        _log_causes(error)
        status = 2 if isinstance(error, OptionError) else 1
        _fail(_in_words_of_the_command_line(error, tree, arguments), status, asked_for_json(tree, arguments))
    except _ClickError as error:
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message(), end="", file=sys.stderr)  # rich has shown the help already
            sys.exit(2)
        usage = f"{context.command_path if context else 'pspnet-edge'} --help"
        problem = _plain(error.format_message().rstrip(".") or "wrong usage")
        status = 2 if isinstance(error, _UsageError) else 1
        problem = problem[0].lower() + problem[1:]
        meant = meant_option(error, context.command) if context else None
        if meant is not None:
            problem = f"{problem.partition(' (Possible options')[0]}. Did you mean {meant}?"
        wrong = PspnetEdgeError(problem, "see the usage", usage)
        rooted = with_root(tree, arguments) if "unexpected extra argument" in problem else None
        if rooted is not None:
            wrong = PspnetEdgeError("the folder of the data set is an option", "give it", rooted)
        _fail(wrong, status, asked_for_json(tree, arguments))
    except BrokenPipeError:
        # Whoever read the output has gone; what is still buffered must not fail a second time at exit.
        _discard(sys.stdout)
        sys.exit(1)
    except Ended as end:
        _fail(PspnetEdgeError(end.words, end.fix, end.command), end.status, asked_for_json(tree, arguments))
    except (KeyboardInterrupt, typer.Abort):
        _fail(PspnetEdgeError("interrupted"), 130, asked_for_json(tree, arguments))
    except (OSError, MemoryError) as error:
        _log_causes(error)
        refused = PspnetEdgeError(f"the system refused ({str(error) or 'out of memory'})")
        if _working_folder_is_gone():
            refused = PspnetEdgeError("the working folder is gone", "change to another one")
        _fail(refused, 1, asked_for_json(tree, arguments))
    except Exception as error:
        _log_causes(error)
        what = f"{type(error).__name__}: {error}".split("\n")[0]
        report = PspnetEdgeError(f"internal error ({what})", "report it with the output of -v")
        _fail(report, 1, asked_for_json(tree, arguments))


def _working_folder_is_gone() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _log_causes(error: BaseException) -> None:
    """What led to an error: each cause in a line at ``-v``, the whole traceback at ``-vv``."""
    cause = error.__cause__ if isinstance(error, PspnetEdgeError) else error
    while cause is not None:
        text = str(cause).strip() or "no message"
        _log.info("%s: %s", type(cause).__name__, text)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    _log.log(logging.DEBUG if isinstance(error, PspnetEdgeError) else logging.INFO, "traceback", exc_info=error)


def _share_verbose(group: Any, option: Any | None = None) -> None:
    """Give the root's ``-v`` to every command below, so that it may be written before or after the command."""
    option = option or next(entry for entry in group.params if entry.name == "verbose")
    option.expose_value = False
    for below in group.commands.values():
        below.params.append(option)
        if hasattr(below, "commands"):
            _share_verbose(below, option)


def _compact_help(command: Any) -> None:
    """Leave the room of 80 columns to the text: no types of flags and arguments, no ranges, no column for ``--no-``."""
    command.format_help = partial(_format_help, command)
    for below in getattr(command, "commands", {}).values():
        _compact_help(below)


def _format_help(command: Any, context: Any, formatter: Any) -> None:
    from typer import rich_utils

    rich_utils.RANGE_STRING = ""  # the text says what is possible where it is not obvious
    for entry in command.get_params(context):
        if entry.param_type_name == "argument":
            entry.display_type_rich = lambda ctx: None  # Typer 0.29 shows those of Python: <list[str]>
            continue
        entry.secondary_opts = []  # parsing is over
        if entry.metavar is None and (getattr(entry, "is_flag", False) or getattr(entry, "count", False)):
            entry.metavar = ""
    command.help = _joined_lines(command.help or "")
    type(command).format_help(command, context, formatter)


def _joined_lines(text: str) -> str:
    """A docstring with each paragraph on one line, as rich breaks lines itself; it keeps those of later paragraphs."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(part if part.startswith(" ") else part.replace("\n", " ") for part in paragraphs)


def _fail(error: PspnetEdgeError, status: int, as_json: bool) -> None:
    told = redacted(to_json({"error": error.to_dict()})) + "\n" if as_json else ""
    sentence = f"pspnet-edge: {redacted(printable(str(error)))}\n"
    logging.getLogger(PRINTED).error("%s (exit status %d)", error, status)
    for stream, text in ((sys.stdout, told), (sys.stderr, sentence)):
        try:
            stream.write(text)
            stream.flush()
        except OSError:  # a full disk, or a terminal that is gone
            _discard(stream)
    sys.exit(status)


def _discard(stream: TextIO) -> None:
    """Throw away what is still buffered, so that it does not fail a second time at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _in_words_of_the_command_line(error: PspnetEdgeError, tree: Any, arguments: list[str]) -> PspnetEdgeError:
    """The error with the option in place of the Python parameter that the library names."""
    if not isinstance(error, OptionError) or error.parameter is None:
        return error
    option = option_of(command_at(tree, arguments), error.parameter)
    return PspnetEdgeError(f"{option}: {error.problem}", error.fix, error.command)
