"""Silence for export tools that print progress bars and warnings of their own."""

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what Python code prints, logs or warns inside the block; exceptions pass."""
    previous = logging.root.manager.disable
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(previous)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Work inside a temporary folder, which also takes the tools' own temporary files, and remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix="kit-export-") as name:
        previous = tempfile.tempdir
        tempfile.tempdir = name
        try:
            yield Path(os.path.realpath(name))
        finally:
            tempfile.tempdir = previous
