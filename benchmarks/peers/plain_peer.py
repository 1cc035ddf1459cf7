"""The loop that one writes without a kit: torchvision's ResNet-18, AdamW, a cosine, random crops and flips, float32.

Weights that are given fill all but the classifier, and everything learns on from them at the same rate: on other
pictures that did better than a tenth of it.
Its own environment: torch==2.13.0, torchvision==0.28.0, safetensors, psutil. Being written for the comparison, it
follows the budget itself: its cosine falls with the processor time that is spent.
"""

import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision import models, transforms
from torchvision.datasets import ImageFolder

from benchmarks.peers.picture_side import Job, Learnt, Meter, serve

RATE, BATCH = 1e-3, 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PlainLoop:
    """Twenty lines around a loader."""

    package = "torchvision"

    def prepare(self, job: Job) -> None:
        torch.set_num_threads(job.threads)

    def train(self, job: Job) -> Learnt:
        spent = Meter()
        torch.manual_seed(job.seed)
        crop = transforms.RandomResizedCrop(job.size)
        steps = [crop, transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        data = ImageFolder(Path(job.data) / "train", transforms.Compose(steps))
        self.classes = data.classes
        self.model = models.resnet18(num_classes=len(data.classes)).train()
        if job.weights:
            self._fill(load_file(job.weights))
        optimizer = torch.optim.AdamW(self.model.parameters(), RATE)
        loader = DataLoader(data, BATCH, shuffle=True, drop_last=len(data) >= BATCH)
        done = 0
        while True:
            for images, labels in loader:
                share = spent() / job.budget
                if share >= 1:
                    samples = done * BATCH
                    return Learnt(steps=done, samples=samples, epochs=samples / len(data))
                optimizer.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * share))
                optimizer.zero_grad()
                cross_entropy(self.model(images), labels).backward()
                optimizer.step()
                done += 1

    def _fill(self, known: dict[str, Tensor]) -> None:
        kept = {name: tensor for name, tensor in known.items() if not name.startswith("fc.")}
        missing = self.model.load_state_dict(kept, strict=False).missing_keys
        assert missing == ["fc.weight", "fc.bias"], missing

    @torch.inference_mode()
    def predictions(self, job: Job) -> dict[str, str]:
        shorter = round(job.size * 256 / 224)
        steps = [transforms.Resize(shorter), transforms.CenterCrop(job.size), transforms.ToTensor()]
        data = ImageFolder(Path(job.data) / "val", transforms.Compose([*steps, transforms.Normalize(MEAN, STD)]))
        self.model.eval()
        found = torch.cat([self.model(images).argmax(1) for images, _ in DataLoader(data, BATCH)]).tolist()
        root = Path(job.data) / "val"
        files = [str(Path(file).relative_to(root)) for file, _ in data.samples]
        return {file: self.classes[label] for file, label in zip(files, found, strict=True)}


if __name__ == "__main__":
    serve(PlainLoop())
