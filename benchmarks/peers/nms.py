"""The speed of turning an SSD300's answers into detections, side by side with torchvision's means and a Python loop.

    python -m benchmarks.peers.nms                      made-up answers
    python -m benchmarks.peers.nms --heads FILE         a detector's answers, as offsets and logits in safetensors

Needs a torchvision with compiled operators. All works run in turns within one process, and must find the same boxes.
"""

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.command import run_command
from benchmarks.compare import publish
from benchmarks.measure import Step, clock_of, interleave
from benchmarks.peers.detector_answers import saved_heads, synthetic_heads
from benchmarks.peers.nms_peers import PEERS, Found, torchvision_boxes
from benchmarks.record import ProtocolUsed, Record, Workload, environment_of, new_record
from benchmarks.validity import judge
from challenges.detection.boxes import SSD300
from challenges.detection.detections import Detections
from challenges.detection.nms import detect
from challenges.detection.recipes import NmsConfig
from common.errors import KitError
from common.machine.device import DeviceChoice, select_device

AGREEMENT = 0.995  # share of detections that must be the same: the peers round overlaps otherwise


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure, and for how long."""

    heads: Path | None = None
    """Saved answers of a detector; made-up ones where none are given."""
    batch: int = 8
    objects: int = 16
    """Objects per image in made-up answers."""
    device: DeviceChoice = "auto"
    rounds: int = 10
    block_seconds: float = 2.0
    warmup_seconds: float = 3.0
    output: Path | None = None
    """Folder of the record; by default benchmarks/results/<device>."""


def agreement(ours: Detections, theirs: Sequence[Found]) -> float:
    """The share of detections that both sides have: the same label, and the same box to 1e-4 of the image."""
    same = total = 0
    for image, (boxes, _, labels) in enumerate(theirs):
        count = int((ours.labels[image] > 0).sum())
        total += max(count, len(labels))
        near = (ours.boxes[image, :count, None] - boxes).abs().amax(2) < 1e-4
        same += int((near & (ours.labels[image, :count, None] == labels)).any(1).sum())
    return same / total if total else 1.0


def compare(
    offsets: Tensor, logits: Tensor, settings: Settings, device: torch.device, command: Sequence[str]
) -> Record:
    """Our detections against the peers' on the same answers.

    Raises KitError where a peer does not find the same.
    """
    config = NmsConfig(per_class=SSD300.count)  # no limit: batched_nms knows none
    inputs = (offsets.to(device), logits.to(device), SSD300.boxes().to(device), config)
    ours = detect(*inputs)
    details = {"candidates_per_image": float((logits.softmax(2)[..., 1:] > config.score_threshold).sum()) / len(logits)}
    details["detections_per_image"] = float((ours.labels > 0).sum()) / len(logits)
    for name, peer in PEERS.items():
        details[f"{name}_agreement"] = agreement(ours, peer(*inputs))
        if details[f"{name}_agreement"] < AGREEMENT:
            raise KitError(f"{name} finds only {details[f'{name}_agreement']:.1%} of our detections.")
    steps: dict[str, Step] = {
        name: functools.partial(_step, function, inputs) for name, function in {"ours": detect, **PEERS}.items()
    }
    with torch.inference_mode():
        measured = interleave(
            steps,
            warmup_seconds=settings.warmup_seconds,
            rounds=settings.rounds,
            block_seconds=settings.block_seconds,
            clock=clock_of(device),
        )
    environment = environment_of(device=str(device), precision="fp32")
    ratios = {f"ours/{name}": measured.ratio("ours", name) for name in PEERS}
    data = "synthetic" if settings.heads is None else "real"
    return new_record(
        kind="comparison",
        name="nms",
        workload=Workload(
            challenge="detection",
            model="ssd300",
            engine="torch",
            batch=len(logits),
            input_shape=tuple(logits.shape[1:]),
            precision="fp32",
            sample_unit="image",
            data=data,  # type: ignore[arg-type]  # one of the two
            dataset="made-up answers" if settings.heads is None else settings.heads.stem,
        ),
        protocol=ProtocolUsed.interleaved(settings),
        measurements=measured.sides,
        ratios=ratios,
        details=details,
        validity=judge(measured.sides, environment=environment, data=data, ratios=ratios),  # type: ignore[arg-type]
        command=command,
        environment=environment,
    )


def _step(function, inputs) -> int:  # type: ignore[no-untyped-def]  # of detect's form
    function(*inputs)
    return len(inputs[0])


def main(settings: Settings) -> int:
    """Measure suppression and write a record."""
    console = Console()
    torchvision_boxes()
    device = select_device(settings.device)
    if settings.heads is None:
        offsets, logits = synthetic_heads(settings.batch, objects=settings.objects)
    else:
        offsets, logits = (tensor[: settings.batch] for tensor in saved_heads(settings.heads))
    record = compare(offsets, logits, settings, device, ("python", "-m", "benchmarks.peers.nms", *sys.argv[1:]))
    publish(record, settings.output, console)
    return 0


if __name__ == "__main__":
    run_command(main)
