"""Files that a person's corrections become: named after what is in them, never written over what is there."""

import hashlib
from pathlib import Path

from common.errors import KitError
from common.files import atomic_writer
from common.language.telling import english
from common.playground.uploads import SUFFIXES


def stem_of(encoded: bytes) -> str:
    """A name that the same picture always has, and no other."""
    return hashlib.sha256(encoded).hexdigest()[:20]


def write_picture(encoded: bytes, image_format: str, folder: Path) -> Path:
    """The picture's own bytes in a folder, made where it is absent; left alone where the picture is there already.

    image_format: such as JPEG.
    """
    path = folder / f"{stem_of(encoded)}{SUFFIXES[image_format]}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_writer(path) as stream:
            stream.write(encoded)
    return path


def class_folder(root: Path, name: str) -> Path:
    """The folder of a class below `root`; KitError for a name that a folder cannot have."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise KitError(
            english("The class {name!r} cannot name a folder.", name=name),
            remedy=english("Rename the class in the training data."),
        )
    return root / name
