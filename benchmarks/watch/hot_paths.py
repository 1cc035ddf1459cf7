"""The kit's hot paths in Python and NumPy, each as a call on a small input, and how its instructions are counted.

    python -m benchmarks.watch.hot_paths NAME

runs one; `benchmarks.watch.speed` does so under callgrind. They are what a check, a loader, an evaluation, a
preparation of clicks and a client do once for each file, batch, detection, row or name. Inputs are made in the current
folder.
"""

import contextlib
import ctypes
import gc
import mmap
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

Run = Callable[[], object]
"""One call of a path, its input being ready."""
WARM_UP = 3  # calls before the counted ones: imports, caches, and the interpreter's own specialising are done by then
CALLS = 10  # counted: what a call does by chance, such as growing a table of the allocator's, is a tenth of it then
CLIENT_REQUEST = bytes.fromhex(
    "4889f8"  # mov rax, rdi: the request and its five arguments lie where the first argument points
    "31d2"  # xor edx, edx: the answer outside valgrind
    "48c1c703 48c1c70d 48c1c73d 48c1c733"  # rol rdi by 3, 13, 61 and 51, in all 128: nothing, and valgrind's sign
    "4887db"  # xchg rbx, rbx: nothing, and a request
    "4889d0 c3"  # mov rax, rdx; ret
)
"""A client request to valgrind on x86-64, as its header valgrind.h describes it; a processor does nothing for it."""
START, STOP = 0x43540004, 0x43540005  # callgrind.h: 'C', 'T' and the requests' places


def manifest_scan() -> Run:
    """Listing a folder of 320 photographs in 8 classes, and its fingerprint."""
    from common.vision.image_folders import list_images

    for number in range(320):
        file = Path("photographs", f"class-{number % 8}", f"{number:04}.jpg")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file, ns=(10**18 + number, 10**18 + number))
    return lambda: list_images(Path("photographs"), "").fingerprint


def manifest_read() -> Run:
    """Writing a manifest of 400 rows and reading it."""
    import numpy as np

    from challenges.classification.manifest import Manifest
    from common.files import sha256, write_json

    rows, file = 400, Path("manifest.csv")
    numbers = np.arange(rows)
    manifest = Manifest(
        root=Path("photographs"),
        classes=tuple("abcdefgh"),
        paths=np.array([f"{number % 8}/{number:04}.jpg" for number in numbers], object),
        labels=numbers % 8,
        widths=(500 + numbers).astype(np.int32),
        heights=(400 + numbers).astype(np.int32),
        splits=np.array(["train", "val"], object)[numbers % 2],
        sizes=numbers + 10_000,
        mtimes_ns=numbers + 10**18,
        digests=np.array([f"{number:064x}" for number in numbers], object),
        fingerprint="f",
    )
    manifest.write(file)
    write_json(Path("check.json"), {
        "manifest_sha256": sha256(file), "classes": list(manifest.classes), "root": "photographs", "fingerprint": "f",
    })  # fmt: skip

    def run() -> None:
        manifest.write(file)
        Manifest.read(file)

    return run


def photograph_order() -> Run:
    """Which photographs a step of 256 has, and the window of each."""
    import numpy as np

    from common.machine.distributed import ALONE
    from common.training.randomness import shuffled_shares, uniform_numbers
    from common.vision.random_crops import random_resized_crops

    heights, widths = (np.arange(low, low + 5000, dtype=np.int32) % 900 + 100 for low in (0, 333))

    def run() -> None:
        share = next(shuffled_shares(5000, 256, 3, seed=0, world=ALONE))
        uniform = uniform_numbers(0, share.step, 256, 40)[share.rows].reshape(-1, 10, 4)
        random_resized_crops(heights[share.samples], widths[share.samples], uniform, (0.08, 1.0), (0.75, 4 / 3))

    return run


def scene_windows() -> Run:
    """Random windows of 16 images with 8 boxes each, and the boxes in them."""
    import numpy as np

    from challenges.detection.windows import ATTEMPTS, NUMBERS, place_boxes, random_windows

    draws = np.random.default_rng(0)
    sides = np.full(16, 500, np.int32)
    corner, size = draws.random((2, 16, 8, 2)) * [[[[400]]], [[[90]]]]
    boxes = np.concatenate([corner, corner + size + 5], axis=2).astype(np.float32)
    present, flips = np.ones((16, 8), bool), np.arange(16) % 2 == 0
    uniform = draws.random((16, ATTEMPTS, NUMBERS))

    def run() -> None:
        starts, sizes = random_windows(sides, sides, boxes, present, uniform, (0.3, 1.0))
        place_boxes(boxes, present, starts, sizes, flips, ~flips, 1 / 300)

    return run


def box_encoding() -> Run:
    """Which of 8,732 default boxes learns which of 8 objects, in 2 images."""
    import torch

    from challenges.detection.boxes import SSD300, match

    corner = torch.linspace(0.05, 0.6, 2 * 8 * 2).reshape(2, 8, 2)
    boxes, labels, anchors = (
        torch.cat([corner, corner + 0.3], dim=2),
        torch.ones(2, 8, dtype=torch.int64),
        SSD300.boxes(),
    )
    return lambda: match(boxes, labels, anchors)


def detection_matching() -> Run:
    """COCO's matching of 1,000 detections with 250 boxes in 50 images."""
    import numpy as np

    from challenges.detection.detections import DetectionTable
    from challenges.detection.matching import Truth, match, overlapping_pairs, ranks

    draws = np.random.default_rng(0)

    def boxes(count: int) -> np.ndarray:
        corner = draws.random((count, 2)) * 200
        return np.concatenate([corner, corner + 20 + draws.random((count, 2)) * 100], axis=1).astype(np.float32)

    truth = Truth(np.repeat(np.arange(50), 5), np.arange(250) % 3 + 1, boxes(250), np.arange(250) % 25 == 0)
    scores = draws.random((50, 20), np.float32)
    table = DetectionTable(
        np.repeat(np.arange(50), 20), np.arange(1000) % 3 + 1, -np.sort(-scores).ravel(), boxes(1000)
    )
    thresholds = np.linspace(0.5, 0.95, 10).tolist()
    return lambda: match(truth, overlapping_pairs(truth, table, thresholds[0]), ranks(table), thresholds, 100)


def negative_sampling() -> Run:
    """99 unseen items for each of 64 judged users, and 4 for each of 256 samples of a training batch."""
    import numpy as np
    import torch

    from challenges.recommendation.histories.histories import Histories, HistorySplit
    from challenges.recommendation.histories.negatives import UnseenItems, sample_negatives

    users, items = 64, 800
    met = np.argsort(np.random.default_rng(0).random((users, items)))[:, :21]
    train, targets = (
        Histories(np.arange(users + 1) * part.shape[1], part.ravel()) for part in (met[:, :20], met[:, 20:])
    )
    names = np.arange(items).astype(str)
    split = HistorySplit(
        "leave-one-out", items, names, names, names[:users], train, np.arange(users), train, targets, None, {}, "f"
    )
    unseen, row = UnseenItems(train, items, torch.device("cpu")), torch.arange(256)

    def run() -> None:
        sample_negatives(split, 99, by="uniform", seed=0)
        unseen.draw(row % users, 4, seed=0, step=5, row=row)

    return run


def click_encoding() -> Run:
    """4 columns of 2,000 texts each to their ids, by a vocabulary and by a hash."""
    import numpy as np
    import polars as pl

    from challenges.recommendation.clicks.spec import Categorical
    from challenges.recommendation.clicks.vocabulary import Vocabulary, ids_of

    draws = np.random.default_rng(0).integers(0, 700, (4, 2000))
    columns = [pl.Series(f"C{place}", [f"{value:08x}" for value in values]) for place, values in enumerate(draws)]
    vocabulary = Vocabulary.of(pl.Series([f"{value:08x}" for value in range(500)]))
    looked_up, hashed = Categorical(name="C", cardinality=502), Categorical(name="C", cardinality=300, hashed=True)

    def run() -> None:
        for texts in columns:
            ids_of(texts, looked_up, vocabulary)
            ids_of(texts, hashed, None)

    return run


def request_encoding() -> Run:
    """What a client sends: 8 files as one tensor, and 256 rows of a table as columns; and 400 names to positions."""
    from challenges.recommendation.clicks.serving.rows import read_rows
    from challenges.recommendation.histories.serving.asked.naming import Catalogue
    from common.serving.encoded import image_requests

    files = [bytes([number]) * (20_000 + 100 * number) for number in range(1, 9)]
    columns, table = [f"C{place}" for place in range(26)], Path("rows.csv")
    lines = [",".join(f"{row * place % 97:08x}" for place in range(26)) for row in range(256)]
    table.write_text("\n".join([",".join(columns), *lines, ""]))
    catalogue = Catalogue([str(number) for number in range(900)], [f"The Title {number}" for number in range(900)])
    names = [f"the title {number}" if number % 2 else str(number) for number in range(400)]

    def run() -> None:
        list(image_requests(files))
        list(read_rows(table, 64, columns))
        for name in names:
            catalogue.find(name)

    return run


PATHS: dict[str, Callable[[], Run]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        manifest_scan, manifest_read, photograph_order, scene_windows, box_encoding, detection_matching,
        negative_sampling, click_encoding, request_encoding,
    )
}  # fmt: skip


class Valgrind:
    """What a program under valgrind asks of it: instructions count from START to STOP, and all else runs quickly."""

    def __init__(self) -> None:
        self._code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._code.write(CLIENT_REQUEST)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        self._call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(address)

    def ask(self, request: int) -> None:
        self._call((ctypes.c_uint64 * 6)(request))


def main(name: str) -> None:
    """Make the input in a folder of its own, call the path until it is warm, and on with instructions counted."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        _count(PATHS[name]())


def _count(run: Run) -> None:
    valgrind = Valgrind()
    for _ in range(WARM_UP):
        run()
    gc.collect()
    gc.freeze()  # what was there before is looked through no more, so that an import more does not count
    valgrind.ask(START)
    for _ in range(CALLS):
        run()
    valgrind.ask(STOP)


if __name__ == "__main__":
    main(sys.argv[1])
