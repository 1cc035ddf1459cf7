"""How every benchmark's command line is read, and how it ends."""

import sys
from collections.abc import Callable
from typing import NoReturn

import tyro

from common.errors import KitError


def run_command(main: Callable[..., int]) -> NoReturn:
    """Call `main` with the command line's arguments and exit with what it returns, or with an error's code."""
    try:
        sys.exit(tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,)))
    except KitError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
