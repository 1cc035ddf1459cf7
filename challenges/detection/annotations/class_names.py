"""Which classes a YOLO folder has, from its data.yaml or its list of names."""

import itertools
import re
from collections import Counter
from pathlib import Path

from challenges.detection.annotations.names import base, parent
from challenges.detection.annotations.table import plain
from challenges.detection.annotations.text_files import lines_of, text_of
from common.errors import DataError
from common.vision.image_folders import Listing, displayed

NAME_FILES = ("classes.txt", "obj.names", "classes.names")


def class_names(root: Path, listing: Listing) -> tuple[dict[int, str] | None, str]:
    """Class number -> name, and the file that says so: the topmost data.yaml, else classes.txt.

    Raises DataError where that file cannot be read.
    """
    listed = sorted(
        (file.path for file in listing.annotations),
        key=lambda path: (path.count("/"), not base(path).lower().startswith("data."), path),
    )
    for path in listed:
        if path.lower().endswith((".yaml", ".yml")):
            names = _yaml_names(root / path)
            if names:
                return _distinct(names), path
    for path in listed:
        if base(path).lower() in NAME_FILES:
            try:
                lines = [line for _, line in lines_of(root / path)]
            except (OSError, ValueError) as error:
                raise DataError(f"{root / path} cannot be read: {error}.", "It holds one class name a line.") from None
            return _distinct(dict(enumerate(lines))), path
    return None, ""


def other_names(root: Path, listing: Listing, names: dict[int, str], taken: str) -> str:
    """A sentence on the first other file that names the classes otherwise than the one that was taken, "" without one.

    Raises DataError where that file has as good a claim: two YAML files in one folder, none or both called data.yaml.
    """
    for path in sorted(file.path for file in listing.annotations if file.path != taken):
        is_yaml = path.lower().endswith((".yaml", ".yml"))
        if not is_yaml and base(path).lower() not in NAME_FILES:
            continue
        own = _yaml_names(root / path) if is_yaml else dict(enumerate(line for _, line in lines_of(root / path)))
        if not own or _distinct(own) == names:
            continue
        told = f"{plain(displayed(taken))} and {plain(displayed(path))} name the classes differently"
        if is_yaml and parent(path) == parent(taken) and not base(taken).lower().startswith("data."):
            raise DataError(
                f"{root}: {told}.", "One file names the classes.", "Keep the right one, or call it data.yaml."
            )
        return f"{told}: the first one counts."
    return ""


def keypoint_values(root: Path, file: str) -> int:
    """How many values of keypoints follow a box in every row: `kpt_shape: [17, 3]` of a data.yaml says 51; else 0."""
    if not file.lower().endswith((".yaml", ".yml")):
        return 0
    told = re.search(r"^kpt_shape\s*:\s*\[\s*(\d{1,4})\s*,\s*(\d)\s*\]", text_of(root / file), re.MULTILINE)
    return int(told[1]) * int(told[2]) if told else 0


def _yaml_names(path: Path) -> dict[int, str]:
    """The `names` of a data.yaml in any of its three ways: [a, b], a list of "- a", or a list of "0: a"."""
    try:
        lines = [line for _, line in lines_of(path)]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.", "It names the classes: names: [cat, dog].") from None
    start = next((row for row, line in enumerate(lines) if re.match(r"names\s*:", line)), None)
    if start is None:
        return {}
    first = lines[start].split(":", 1)[1].strip()
    if first[:1] in ("[", "{"):
        inside = " ".join([first, *map(str.strip, lines[start + 1 :])])
        entries = _comma_parts(inside[1 : max(inside.find("]" if first[0] == "[" else "}"), 1)])
    else:
        following = itertools.takewhile(lambda line: not re.match(r"[^\s#-]", line), lines[start + 1 :])
        entries = [line.strip().removeprefix("-").strip() for line in following if not line.strip().startswith("#")]
    names = {}
    for position, entry in enumerate(entries):
        numbered = re.match(r"""["']?(\d{1,9})["']?\s*:\s*(.*)""", entry)
        number, name = (int(numbered[1]), numbered[2]) if numbered else (position, entry)
        names[number] = re.sub(r"\s+#.*", "", name).strip().strip("\"'")
    return names


def _comma_parts(text: str) -> list[str]:
    """What commas outside of quotation marks part."""
    return [part.strip() for part in re.findall(r"""\s*(?:"[^"]*"|'[^']*'|[^,"'])+""", text) if part.strip()]


def _distinct(names: dict[int, str]) -> dict[int, str]:
    shown = {number: plain(name) or str(number) for number, name in names.items()}
    twice = {name for name, count in Counter(shown.values()).items() if count > 1}
    return {number: f"{name} ({number})" if name in twice else name for number, name in shown.items()}
