"""How pixels become a model's input: one contract for training, evaluation, export, serving and the client."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from common.errors import RecipeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # 255 times (0.485, 0.456, 0.406)
IMAGENET_STD = (58.395, 57.12, 57.375)  # 255 times (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class ImagePreprocessing:
    """Sizes in pixels, mean and standard deviation per RGB channel on the 0..255 scale.

    centre-crop: the shorter side becomes `resize`, the centre `crop` x `crop` is kept, proportions survive.
    squash:      the whole image becomes `crop` x `crop`.
    Both resize bilinearly with antialiasing, as Pillow does; the orientation that EXIF states is applied first.
    """

    resize: int = 256
    crop: int = 224
    mode: Literal["centre-crop", "squash"] = "centre-crop"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resize:
            raise RecipeError(
                f"preprocessing.crop is {self.crop} and preprocessing.resize {self.resize}.",
                "The crop must fit into the resized image: 1 <= crop <= resize.",
            )

    def to_plain(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def pixels(self, images: "NDArray[np.float32]") -> "NDArray[np.uint8]":
        """Undo the normalisation: (batch, 3, height, width) float -> (batch, height, width, 3) bytes to look at."""
        import numpy as np

        restored = images.transpose(0, 2, 3, 1) * np.array(self.std, np.float32) + np.array(self.mean, np.float32)
        return np.clip(np.rint(restored), 0, 255).astype(np.uint8)
