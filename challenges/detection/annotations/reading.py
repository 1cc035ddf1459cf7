"""Which annotations a folder of images has, COCO's, Pascal VOC's, YOLO's or a table's, and reading them."""

from dataclasses import replace
from pathlib import Path

from challenges.detection.annotations import box_tables, coco, foreign, voc, yolo
from challenges.detection.annotations.faults import first_of
from challenges.detection.annotations.table import Annotations, UnusableError
from common.errors import DataError
from common.vision.image_folders import Listing, list_images, refuse_without_images

SUFFIXES = frozenset((".json", ".xml", ".txt", ".yaml", ".yml", ".names"))
LAYOUTS = f"{coco.LAYOUT} {voc.LAYOUT} {yolo.LAYOUT} {box_tables.LAYOUT}"


def list_scenes(root: Path) -> Listing:
    """The images of a folder and the files that may annotate them; raises DataError where it cannot be listed."""
    listing = list_images(root, LAYOUTS, SUFFIXES)
    tables = box_tables.listed_tables(root) if ".csv" in listing.others else ()
    return replace(listing, annotations=(*listing.annotations, *tables))


def read(root: Path, listing: Listing) -> Annotations:
    """Read a folder's annotations: COCO's where there are any, else VOC's, YOLO's, a table's.

    Raises DataError when there are no images, no annotations, none that can be read, or no image they belong to.
    """
    refuse_without_images(root, listing, LAYOUTS)
    annotations = _read(root, listing)
    if not annotations.images:
        raise UnusableError(
            f"No image of {root} has usable annotations.{first_of(annotations.findings)}",
            LAYOUTS,
            "",
            annotations.findings,
        )
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
    tables = box_tables.find(root)
    if tables:
        return box_tables.read(root, listing, tables)
    remaining = coco.json_files(listing)
    foreign.refuse_known(root, remaining)
    if len(remaining) == 1:  # nothing else it could be: reading it tells what is wrong with it
        return coco.read(root, listing, {"": remaining[0]})
    foreign.refuse_texts(root, foreign.text_files(root, listing))
    given = f"{root} holds {len(listing.files)} images and no annotations."
    raise DataError(given, LAYOUTS, foreign.csv_hint(listing))
