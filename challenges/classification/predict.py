"""`kit predict` for photographs: the likeliest classes as a table, and the answer written on a copy of each image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from rich.console import Console
from rich.table import Table

from challenges.classification.data import PhotographData
from challenges.classification.recipes import ClassificationRecipe
from challenges.classification.task import ClassificationTask
from common.challenge import Trained
from common.errors import DataError
from common.files import atomic_writer, cut_name
from common.terminal.console import plain
from common.vision.images import EXTENSIONS, ImageProblem, probe

SHOWN = 3  # classes per image
ANNOTATED_SIDE = 800  # pixels of the longer side of an annotated copy


def predict(
    trained: Trained[ClassificationRecipe, PhotographData, ClassificationTask],
    inputs: Sequence[Path],
    output: Path,
    device: torch.device,
    console: Console,
) -> None:
    """Classify image files and folders of them; unreadable files are named and left out."""
    paths = _readable(inputs, console)
    data, task = trained.data, trained.task.place(device)
    split = data.manifest.with_files(
        Path("/"), [str(path.resolve()) for path in paths], np.zeros(len(paths), dtype=np.int64)
    )
    table = Table("image", *(f"{place}." for place in range(1, SHOWN + 1)), title=plain(trained.run.path.name))
    output.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        for batch in data.batches_of(split, np.arange(len(paths))):
            probability = task.model(batch["images"]).softmax(1).cpu()
            best, predicted = probability.topk(min(SHOWN, probability.shape[1]))
            for index, shares, classes in zip(batch["index"].tolist(), best.tolist(), predicted.tolist(), strict=True):
                answers = [f"{data.manifest.classes[c]} {share:.1%}" for c, share in zip(classes, shares, strict=True)]
                table.add_row(plain(paths[index]), *map(plain, answers))
                _annotate(paths[index], answers[0], output / _name(index, paths[index]))
    console.print(table)
    console.print(plain(f"Annotated copies: {output}"), soft_wrap=True)


def _readable(inputs: Sequence[Path], console: Console) -> list[Path]:
    paths: list[Path] = []
    for given in inputs:
        if given.is_dir():
            paths += sorted(path for path in given.rglob("*") if path.suffix.lower() in EXTENSIONS)
        else:
            paths.append(given)
    sound: list[Path] = []
    for path in paths:
        facts = probe(path)
        if isinstance(facts, ImageProblem):
            console.print(plain(f"left out: {path}: {facts.reason}"), soft_wrap=True)
        else:
            sound.append(path)
    if not sound:
        raise DataError(
            f"There is no readable image among: {', '.join(map(str, inputs))}.",
            f"Images are files ending in {', '.join(sorted(EXTENSIONS))}, or folders of them.",
        )
    return sound


def _name(index: int, path: Path) -> str:
    return f"{cut_name(f'{index:04d}-{path.stem}', len('.jpg'))}.jpg"


def _annotate(path: Path, text: str, output: Path) -> None:
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    picture.thumbnail((ANNOTATED_SIDE, ANNOTATED_SIDE))
    draw = ImageDraw.Draw(picture, "RGBA")
    font = ImageFont.load_default(size=max(12, picture.width // 24))
    _, _, right, bottom = draw.textbbox((8, 6), text, font=font)
    draw.rectangle((0, 0, right + 8, bottom + 6), fill=(0, 0, 0, 160))
    draw.text((8, 6), text, font=font, fill=(255, 255, 255, 255))
    with atomic_writer(output) as stream:
        picture.save(stream, "JPEG", quality=90)
