"""`kit`: one verb per thing to do, one recipe per promise."""

import contextlib
import io
import os
import select
import sys
import threading
from collections.abc import Iterator, Sequence

from challenges.commands import command
from challenges.commands.asked import bring_data
from challenges.parser import build_parser
from common.errors import KitError
from common.failures import explain
from common.language.telling import language_of, speaking
from common.text import printable

BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell tells of programs that it ends


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    if debug:
        given.remove("--debug")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the terminal's encoding lacks is shown as an escape
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            with _threads_without_traceback(debug):
                return _run(given)
        finally:  # a full disk or a closed pipe behind the output is met here, not when the interpreter ends
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return BROKEN_PIPE
        if debug:
            raise
        return _tell(error)


def _run(given: list[str]) -> int:
    parser = build_parser()
    options, overrides = parser.parse_known_args(given)
    if overrides and not options.takes_overrides:
        options.verb_parser.error(f"unknown arguments: {printable(' '.join(overrides))}")
    if options.takes_overrides and not vars(options).get("model", options.recipe):
        if not options.help:
            options.verb_parser.error("the following arguments are required: MODEL")
        options.verb_parser.print_help()
        return 0
    options.overrides = tuple(overrides)
    bring_data(options)
    asked = vars(options).get("lang", "en")  # verbs without the flag speak English
    with speaking(asked or language_of(os.environ)):
        return command(options.verb)(options) or 0


def _tell(error: BaseException) -> int:
    """Print what went wrong, each sentence on its line; returns the exit code."""
    known = error if isinstance(error, KitError) else explain(error)
    if known is None:
        print(f"Unexpected {type(error).__name__}: {printable(str(error))}",
              "Run the command again with --debug for the traceback.", sep="\n", file=sys.stderr)  # fmt: skip
        return 1
    for line in (known.given, known.allowed, known.remedy):
        if line:
            print(printable(line), file=sys.stderr)
    return known.exit_code


def _nobody_reads() -> bool:
    """Whether it is the output's reader that went away; then nothing more is written to it."""
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError):  # closed, or no file of the system's
        return False
    output = select.poll()
    output.register(descriptor, 0)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in output.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return True


@contextlib.contextmanager
def _threads_without_traceback(debug: bool) -> Iterator[None]:
    """Tell of an error in a thread beside the main one in a line, as of every other."""
    before = threading.excepthook
    if not debug:
        threading.excepthook = lambda found: None if found.exc_value is None else print(
            f"In the background: {printable(str(explain(found.exc_value) or found.exc_value))}", file=sys.stderr
        )  # fmt: skip
    try:
        yield
    finally:
        threading.excepthook = before


if __name__ == "__main__":
    sys.exit(main())
