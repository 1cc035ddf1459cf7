"""What the kit is compared with: the loader and the training loop that a good engineer writes without it.

The loader does the work of the kit's: decode, EXIF orientation, random-resized crop to 224 with an antialiased
bilinear filter, horizontal flip, normalisation to float32 channels_last, batches in a shuffled order. Its tuning: crop
and resize are one Pillow call; workers persist and send bytes, a quarter of the floats; the whole batch is normalised
at once.
Draft mode lets libjpeg decode at 1/2, 1/4 or 1/8 size, only where the crop still has at least as many pixels as the
output; the crop is kept in fractions of a pixel, so that it covers the same part of the photograph.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from common.training.task import Batch
from common.vision.preprocessing import IMAGENET_MEAN, IMAGENET_STD

AREA, ASPECT, ATTEMPTS = (0.08, 1.0), (3 / 4, 4 / 3), 10  # random-resized crop of Szegedy 2015 (arXiv:1409.4842)
ORIENTATION = 0x0112  # EXIF tag


class PillowImages(Dataset[tuple[Tensor, int]]):
    """Random crops of photographs as bytes.

    returns: (height, width, channel) uint8 and the label
    """

    def __init__(self, files: Sequence[Path], labels: Sequence[int], size: int = 224, draft: bool = True) -> None:
        self.files, self.labels = [str(file) for file in files], list(labels)
        self.size, self.draft = size, draft

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.files[index]) as image:
            pixels = np.asarray(self._crop(image))
        if random.random() < 0.5:
            pixels = pixels[:, ::-1]
        return torch.from_numpy(pixels.copy()), self.labels[index]

    def _crop(self, image: Image.Image) -> Image.Image:
        """A random part of `image`, upright, resized to (size, size)."""
        output = (self.size, self.size)
        if image.getexif().get(ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
        left, top, width, height = random_crop(*image.size)
        full = image.size
        if self.draft and image.format == "JPEG":
            reduction = min(width, height) / self.size
            if reduction >= 2:
                image.draft("RGB", (math.ceil(full[0] / reduction), math.ceil(full[1] / reduction)))
        across, down = image.width / full[0], image.height / full[1]
        box = (left * across, top * down, (left + width) * across, (top + height) * down)
        return image.convert("RGB").resize(output, Image.Resampling.BILINEAR, box=box)


def random_crop(width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of a part of 8–100 % of the area and an aspect ratio of 3:4 to 4:3."""
    for _ in range(ATTEMPTS):
        area = width * height * random.uniform(*AREA)
        aspect = math.exp(random.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            return random.randint(0, width - across), random.randint(0, height - down), across, down
    across = min(width, round(height * ASPECT[1]))
    down = min(height, round(width / ASPECT[0]))
    return (width - across) // 2, (height - down) // 2, across, down


class PillowLoader:
    """Endless training batches from a DataLoader.

    returns: images (batch, 3, size, size) float32 channels_last and label (batch,) int64, on `device`
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Sequence[int],
        *,
        batch_size: int,
        workers: int,
        size: int = 224,
        draft: bool = True,
        device: str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.loader: DataLoader[tuple[Tensor, int]] = DataLoader(
            PillowImages(files, labels, size, draft),
            batch_size=batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.device.type == "cuda",
            multiprocessing_context="spawn" if workers else None,  # safe beside the threads of DALI and torch
        )
        mean, deviation = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        self.scale, self.shift = (1 / deviation).to(self.device), (-mean / deviation).to(self.device)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            for pixels, labels in self.loader:
                moved = pixels.to(self.device, non_blocking=True)
                images = torch.addcmul(self.shift, moved, self.scale).permute(0, 3, 1, 2)
                yield {"images": images, "label": labels.to(self.device, non_blocking=True)}


def plain_training_step(
    model: nn.Module, batch: Batch, *, lr: float = 0.1, label_smoothing: float = 0.1
) -> Callable[[], int]:
    """One fp32 NCHW training step on a batch that stays in memory: the loop of every tutorial, on the same device.

    SGD with momentum 0.9 and weight decay 1e-4 over all parameters at once (`foreach`). TF32 is left as torch has it.
    """
    model = model.train()
    images, labels = batch["images"].contiguous(), batch["label"]
    criterion = nn.CrossEntropyLoss(label_smoothing=label_smoothing)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4, foreach=True)

    def step() -> int:
        optimizer.zero_grad(set_to_none=True)
        criterion(model(images), labels).backward()
        optimizer.step()
        return len(labels)

    return step
