"""A picture of a run's report for the README, taken by a headless browser.

    python -m benchmarks.picture runs/resnet50-demo-1a2b3c4d

Chromium or Chrome has to be installed (on Debian: apt-get install chromium). The file also holds the last line of the
run.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmarks.command import run_command
from common.errors import KitError
from common.files import atomic_writer
from common.machine.environment import ROOT
from common.run.result import read_result, result_line
from common.run.run_directory import RunDirectory

PICTURE = ROOT / "docs" / "report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIDES = (1160, 1096)  # of the window, in pixels: the page at its full width, down to its first curves
COLOURS = 200
MOST_BYTES = 150_000
PATIENCE_S = 120


def find_browser() -> str:
    """Raises KitError where none is installed."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    raise KitError(
        f"There is no {', '.join(BROWSERS)} here.", remedy="Install one, on Debian: apt-get install chromium"
    )


def photograph(page: Path, browser: str) -> Image.Image:
    """The top of the page as the browser shows it. Raises KitError where the browser fails."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        rights = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox refuses root; the page holds no script
        command = [
            *(browser, "--headless=new", *rights, "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}"),
            *(f"--window-size={SIDES[0]},{SIDES[1]}", f"--screenshot={shot}", page.resolve().as_uri()),
        ]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        except subprocess.TimeoutExpired:
            raise KitError(f"{browser} took no picture of {page} in {PATIENCE_S} s.") from None
        if not shot.is_file():
            raise KitError(f"{browser} took no picture of {page}.", ended.stderr.strip().rpartition("\n")[2])
        with Image.open(shot) as picture:
            return picture.convert("RGB")


def keep(picture: Image.Image, told: str, file: Path) -> None:
    """Write a picture of few colours with a text beside it. Raises KitError where it is too large for a repository."""
    text = PngInfo()
    text.add_itxt("Description", told)
    with atomic_writer(file) as stream:
        picture.quantize(COLOURS, dither=Image.Dither.NONE).save(stream, format="PNG", optimize=True, pnginfo=text)
        if stream.tell() > MOST_BYTES:
            raise KitError(f"The picture has {stream.tell():,} bytes.", f"At most {MOST_BYTES:,} are kept.")


def told_by(file: Path) -> str:
    """The line with which the pictured run ended. Raises KitError where the file holds none."""
    try:
        with Image.open(file) as picture:
            return str(picture.info["Description"])
    except (OSError, KeyError):
        raise KitError(f"{file} is no picture of a run.", remedy="Take one: python -m benchmarks.picture RUN") from None


def main(run: Annotated[Path, tyro.conf.Positional], output: Path = PICTURE) -> int:
    """Take a picture of a run's report.

    Args:
        run: The directory of an evaluated run.
        output: The picture's file.
    """
    directory = RunDirectory.open(run)
    if not (directory.result_file.is_file() and directory.report_file.is_file()):
        raise KitError(f"{run} has no result yet.", remedy=f"Evaluate it: kit evaluate {run}")
    told = result_line(read_result(directory.result_file))
    keep(photograph(directory.report_file, find_browser()), told, output)
    print(f"PICTURE {output} {output.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    run_command(main)
