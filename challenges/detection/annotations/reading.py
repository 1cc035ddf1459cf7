"""Which annotations a folder of images has, COCO's, Pascal VOC's or YOLO's, and reading them."""

from pathlib import Path

from challenges.detection.annotations import coco, voc, yolo
from challenges.detection.annotations.table import Annotations
from common.errors import DataError
from common.image_folders import Listing, list_images, refuse_without_images

SUFFIXES = frozenset((".json", ".xml", ".txt", ".yaml", ".yml", ".names"))
LAYOUTS = f"{coco.LAYOUT} {voc.LAYOUT} {yolo.LAYOUT}"


def list_scenes(root: Path) -> Listing:
    """The images of a folder and the files that may annotate them; raises DataError where it cannot be listed."""
    return list_images(root, LAYOUTS, SUFFIXES)


def read(root: Path, listing: Listing) -> Annotations:
    """Read a folder's annotations: COCO's where there are any, else VOC's, else YOLO's.

    Raises DataError when there are no images, no annotations, none that can be read, or no image they belong to.
    """
    refuse_without_images(root, listing, LAYOUTS)
    annotations = _read(root, listing)
    if not annotations.images:
        first = annotations.findings[0] if annotations.findings else None
        told = f" The first fault: {first.path}: {first.code}, {first.reason}." if first else ""
        raise DataError(f"No image of {root} has usable annotations.{told}", LAYOUTS)
    return annotations


def _read(root: Path, listing: Listing) -> Annotations:
    files = coco.find(root, listing)
    if files is not None:
        return coco.read(root, listing, files)
    source = voc.find(root, listing)
    if source is not None:
        return voc.read(root, listing, source)
    labels = yolo.find(root, listing)
    if labels is not None:
        return yolo.read(root, listing, labels)
    remaining = coco.json_files(listing)
    if len(remaining) == 1:  # nothing else it could be: reading it tells what is wrong with it
        return coco.read(root, listing, {"": remaining[0]})
    raise DataError(f"{root} holds {len(listing.files)} images and no annotations.", LAYOUTS)
