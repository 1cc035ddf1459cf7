"""What a fault that most boxes share says about the whole data: its likely cause and the remedy."""

from collections import Counter
from collections.abc import Sequence

from challenges.detection.annotations.table import Finding, plain

_ALIKE = 0.9  # of all boxes: from here on the cause is one, and not nine in ten slips of the hand
_FEW = 3  # faults up to which the single lines are to be mended

_CAUSES = {
    "unknown-category": "the boxes' class numbers are not those of the list of classes",
    "unknown-image": "the annotations name images by other ids than the list of images has",
    "not-a-number": "what stands where the box's numbers should be are no numbers",
    "malformed-box": "the rows are no boxes",
    "outside-box": "the boxes lie beyond their images: their numbers are in another unit or of other images",
    "degenerate-box": "the boxes have no width or height",
    "missing-image": "the annotations name other files than the folder has",
    "label-without-image": "the label files are called otherwise than the images",
    "size-mismatch": "the images were resized, or are others, since they were annotated",
    "annotation-unreadable": "the annotation files cannot be read",
    "annotation-malformed": "the annotation files are of another format",
}
_REMEDIES = {
    "unknown-category": "Give every class that occurs its number in the list of classes, or export both again.",
    "unknown-image": "Export images and annotations again together.",
    "not-a-number": "Export the annotations again: class names and numbers must be where the format has them.",
    "malformed-box": "Export boxes instead, for instance as COCO with bbox, or as YOLO detection.",
    "outside-box": "Export the boxes again: YOLO takes shares of the image, COCO and Pascal VOC pixels.",
    "degenerate-box": "Export the boxes again with their width and height.",
    "missing-image": "Put the named images into the folder, or annotate those that are there.",
    "label-without-image": "Rename the label files after the images.",
    "size-mismatch": "Use the images that were annotated.",
    "annotation-unreadable": "Export the annotations again, as UTF-8.",
    "annotation-malformed": "Export the annotations as COCO, Pascal VOC or YOLO.",
}


def first_of(findings: Sequence[Finding]) -> str:
    """A sentence on the first of the most frequent faults, with its file and value; "" without faults."""
    if not findings:
        return ""
    code = Counter(finding.code for finding in findings).most_common(1)[0][0]
    first = next(finding for finding in findings if finding.code == code)
    return f" The first fault: {plain(first.path)}: {code}, {first.reason}."


def remedy_of(findings: Sequence[Finding]) -> str:
    """What to do about the most frequent fault: mend the line where there are few, else what they have in common."""
    counts = Counter(finding.code for finding in findings if finding.code in _REMEDIES)
    if not counts:
        return ""
    code, count = counts.most_common(1)[0]
    if count <= _FEW and code in ("not-a-number", "malformed-box", "unknown-category"):
        return "Mend that line." if count == 1 else f"Mend those {count} lines."
    return _REMEDIES[code]


def shared_cause(findings: Sequence[Finding], boxes: int) -> str:
    """A sentence where nine in ten boxes, of those left and those lost, fail alike; else "".

    boxes: how many are left.
    """
    lost = Counter(finding.code for finding in findings if finding.code in _CAUSES)
    if not lost:
        return ""
    code, count = lost.most_common(1)[0]
    if count <= _FEW or count < _ALIKE * (count + boxes):
        return ""
    return f"{count:,} of {count + boxes:,} fail alike ({code}): probably {_CAUSES[code]}. {_REMEDIES[code]}"
