"""Which model a user's data is for, from what the data is made of."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from challenges.classification.layout import find_layout
from challenges.detection.annotations import box_tables, coco, foreign, voc, yolo_files
from challenges.detection.annotations.reading import list_scenes
from challenges.recommendation.files import sources
from challenges.registry import CLICKS, MODELS, Entry
from common.errors import DataError
from common.vision.image_folders import Listing, displayed

FEW_PICTURES = 10  # that lie beside a table like plots, and are no data of their own


@dataclass(frozen=True)
class Chosen:
    """A model, and what in the data speaks for it."""

    model: str
    why: str


def choose_model(root: Path) -> Chosen:
    """Annotated images are a detector's, other images a classifier's, a table of users and items or a click log a
    recommender's.

    Raises DataError where a folder cannot be listed; what no model can read is the classifier's to refuse.
    """
    if root.is_file():
        is_table = root.name.lower().removesuffix(".gz").endswith(sources.SUFFIXES)
        if is_table and _is_click_log(root):
            return Chosen("dlrm", "it is a click log")
        return Chosen("ncf", "it is a table") if is_table else Chosen("resnet50", "it is no table that the kit knows")
    listing = list_scenes(root)
    if listing.files:
        return _of_images(root, listing)
    if _is_click_log(root):
        return Chosen("dlrm", "it has no images, but a click log")
    found = _interactions(root, listing)
    if found:
        return Chosen("ncf", f"it has no images, but {found}")
    return Chosen("resnet50", "it has neither images nor interactions")


def _of_images(root: Path, listing: Listing) -> Chosen:
    count = len(listing.files)
    images = "1 image" if count == 1 else f"{count:,} images"
    found = _annotations(root, listing)
    if not found and not _has_classes(root, listing):
        # a file beside the images is all that can tell what they show
        boxes = box_tables.find(root)
        tables = _tables(root) if count <= FEW_PICTURES and not boxes else ""
        if tables:
            return Chosen("ncf", f"it has {tables}, and {images} in no folders of classes")
        others = [*coco.json_files(listing), *foreign.text_files(root, listing)]
        told = [f"boxes in {displayed(source.path)}" for source in boxes]
        found = next(iter([*told, *(f"no folders of classes, but {displayed(name)}" for name in others)]), "")
    if found:
        return Chosen("ssd300", f"it has {images} and {found}")
    return Chosen("resnet50", f"it has {images} and no annotations of boxes")


def _is_click_log(root: Path) -> bool:
    """Whether click models read it, and those that learn from histories do not."""
    return bool(unreadable(MODELS["ncf"], root)) and not unreadable(MODELS["dlrm"], root)


def unreadable(entry: Entry, root: Path) -> str:
    """Why a recommender cannot learn from the data; empty where it can."""
    try:
        if entry.wing == CLICKS:
            from challenges.recommendation.clicks.opening import kind_of
            from challenges.recommendation.clicks.prepared import FILE

            if not (root / FILE).is_file():
                kind_of(root)
        else:
            sources.find(root)
    except DataError as error:
        return error.given
    return ""


def _has_classes(root: Path, listing: Listing) -> bool:
    """Whether folders tell what the images show."""
    with contextlib.suppress(DataError):
        return len(set(find_layout(root, listing).classes)) > 1
    return False


def _annotations(root: Path, listing: Listing) -> str:
    """What annotates the images, in words; empty where nothing does."""
    try:
        files = coco.find(root, listing)
        if files:
            return f"COCO's annotations in {next(iter(files.values()))}"
        source = voc.find(root, listing)
        if source:
            return f"{len(source.files):,} XML files of Pascal VOC's kind"
        texts = yolo_files.find(root, listing)
        if texts and (texts.left or yolo_files.holds_rows(root, list(texts.labels.values()))):
            return f"{len(texts.labels) + len(texts.left):,} label files of YOLO's kind"
    except DataError:  # there are several to choose from: the check says which
        return "several sets of annotations"
    try:
        foreign.refuse_known(root, coco.json_files(listing))
    except DataError:  # the check says how to convert them
        return "annotations of another tool's kind"
    return ""


def _interactions(root: Path, listing: Listing) -> str:
    """Tables of interactions, in words, or what may be some: the check says what is wrong with a table."""
    tables = sum(listing.others.get(suffix, 0) for suffix in sources.SUFFIXES)
    return _tables(root) or (f"{tables:,} files that may be tables" if tables else "")


def _tables(root: Path) -> str:
    try:
        found = sources.find_all(root)
    except DataError:
        return ""
    return f"interactions in {found[0].layout.path.name if len(found) == 1 else f'{len(found)} files'}"
