"""Folders of pictures beside folders of masks, which mark what the pictures show: neither is a class."""

import re
import unicodedata
from collections.abc import Collection

from common.errors import DataError
from common.vision.image_folders import displayed

_SPLIT = r"train(?:ing)?|val(?:id)?(?:ation)?|test(?:ing)?"
_BESIDE = (
    rf"{_SPLIT}|class|object|instance|semantic|binary|colou?r|fine|all|sets?|data|prepped|png|jpe?g|left|right|bit|x"
)
_PICTURE = r"images?|imgs?|photos?|pictures?|originals?|inputs?|frames?|scans?|cxr|raw|rgb"
_MASK = r"masks?|annot(?:ation)?s?|labels?|seg(?:mentation)?(?:map)?s?|groundtruths?|gts?|trimaps?|mattes?"
_PICTURES = re.compile(rf"(?:{_BESIDE})*(?:{_PICTURE})(?:{_BESIDE})*|{_SPLIT}")
_MASKS = re.compile(rf"(?:{_BESIDE}|{_PICTURE})*(?:{_MASK})(?:{_BESIDE}|{_PICTURE})*")


def refuse_masks(where: str, names: Collection[str]) -> None:
    """Raise DataError where what would be classes are called like pictures and like masks of them, all of them."""
    masks = [name for name in names if _MASKS.fullmatch(_letters(name))]
    pictures = [name for name in names if _PICTURES.fullmatch(_letters(name))]
    if masks and pictures and len(masks) + len(pictures) == len(names):
        raise DataError(
            f"{_listed(masks)} in {where} {'is' if len(masks) == 1 else 'are'} called like masks of what "
            f"{_listed(pictures)} {'shows' if len(pictures) == 1 else 'show'}: these are no classes.",
            "The kit learns classes, a folder for each, and boxes in files of COCO, Pascal VOC or YOLO, but no masks.",
            "Save boxes around what the masks mark, or put one folder per class into the data's folder.",
        )


def _letters(name: str) -> str:
    return re.sub(r"[\W\d_]", "", unicodedata.normalize("NFKC", name)).lower()


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"{displayed(name)}/" for name in sorted(names))
