"""What a detector found: padded tensors from the network, and one flat table over many images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


UNTILED = "untiled_"
"""Before the names of columns and metrics of whole images, beside those of images searched in tiles too."""


class Detections(NamedTuple):
    """The detections of a batch, best first, padded to the same number per image.

    boxes:  (batch, detection, 4) left, top, right, bottom as shares of the image, within [0, 1]; zeros in the padding.
    scores: (batch, detection) float32, falling; 0 in the padding.
    labels: (batch, detection) int64 from 1 on; 0, the background, in the padding.
    """

    boxes: "Tensor"
    scores: "Tensor"
    labels: "Tensor"


@dataclass(frozen=True, eq=False)
class DetectionTable:
    """One row per detection, grouped by image in rising order, best first within an image.

    images: (row,) int64, the image's position among the scenes that were looked at.
    labels: (row,) int64 from 1 on.
    scores: (row,) float32.
    boxes:  (row, 4) float32 left, top, right, bottom in the original image's pixels.
    """

    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def select(self, rows: np.ndarray) -> "DetectionTable":
        """The rows of a mask or of positions."""
        return DetectionTable(self.images[rows], self.labels[rows], self.scores[rows], self.boxes[rows])

    def columns(self, prefix: str = "") -> dict[str, np.ndarray]:
        """The columns that predictions.npz keeps."""
        columns = {"image": self.images, "label": self.labels, "score": self.scores, "box": self.boxes}
        return {prefix + name: column for name, column in columns.items()}

    @staticmethod
    def from_columns(columns: Mapping[str, np.ndarray], prefix: str = "") -> "DetectionTable":
        return DetectionTable(*(columns[prefix + name] for name in ("image", "label", "score", "box")))

    @staticmethod
    def untiled(columns: Mapping[str, np.ndarray]) -> "DetectionTable":
        """What predictions.npz keeps of whole images alone, which is all of it where there were no tiles."""
        return DetectionTable.from_columns(columns, UNTILED if f"{UNTILED}image" in columns else "")

    @staticmethod
    def from_batch(
        images: np.ndarray, widths: np.ndarray, heights: np.ndarray, found: Sequence[np.ndarray]
    ) -> "DetectionTable":
        """Rows of one padded batch, in the original images' pixels.

        images, widths, heights: (batch,) position and original size in pixels of each image.
        found:                   boxes, scores and labels as `Detections` holds them, as arrays.
        """
        boxes, scores, labels = found
        kept = labels > 0
        sizes = np.stack([widths, heights, widths, heights], axis=1).astype(np.float32)
        return DetectionTable(
            np.repeat(images, kept.sum(1)).astype(np.int64),
            labels[kept].astype(np.int64),
            scores[kept].astype(np.float32),
            (boxes.astype(np.float32) * sizes[:, None])[kept],
        )

    @staticmethod
    def join(parts: Sequence["DetectionTable"]) -> "DetectionTable":
        """All parts as one table in the images' order."""
        if not parts:
            empty = np.empty(0, np.int64)
            return DetectionTable(empty, empty, np.empty(0, np.float32), np.empty((0, 4), np.float32))
        joined = DetectionTable(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("images", "labels", "scores", "boxes")
            )
        )
        return joined.select(np.argsort(joined.images, kind="stable"))
