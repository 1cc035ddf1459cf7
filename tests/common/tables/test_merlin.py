"""merlin-dataloader gives the same rows per epoch as the kit's own stream, in its own environment."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.errors import DataError
from common.tables.merlin import MerlinLoader
from common.tables.stream import TableStream
from tests.common.tables.builders import write_files

ROOT = Path(__file__).parents[3]
READ = """
import json, sys
from pathlib import Path
import numpy as np
from common.tables.merlin import MerlinLoader
settings = json.loads(sys.argv[2])
loader = MerlinLoader(tuple(map(Path, sys.argv[3:])), **settings)
arrays = {"count": loader.batches_per_epoch}
for epoch in (0, 1):
    for place, batch in enumerate(loader.epoch(epoch)):
        arrays |= {f"{epoch}/{place}/{name}": values.numpy() for name, values in batch.items()}
for place, batch in enumerate(loader.epoch(1, first_batch=3)):
    arrays[f"resumed/{place}/row"] = batch["row"].numpy()
np.savez(sys.argv[1], **arrays)
"""


@pytest.fixture(scope="module")
def merlin_python():
    python = os.environ.get("KIT_MERLIN_PYTHON")
    if not python:
        pytest.skip(
            "no merlin-dataloader: set KIT_MERLIN_PYTHON to the Python of an environment of containers/merlin.txt"
        )
    return python


def read(python, folder, files, settings):
    command = [python, "-W", "ignore", "-c", READ, str(folder / "out.npz"), settings, *map(str, files)]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    with np.load(folder / "out.npz") as arrays:
        return dict(arrays)


def epoch_of(arrays, name):
    """The batches of one epoch, in order."""
    places = sorted({int(key.split("/")[1]) for key in arrays if key.startswith(f"{name}/")})
    return [
        {key.split("/")[2]: values for key, values in arrays.items() if key.startswith(f"{name}/{place}/")}
        for place in places
    ]


def histories(batches):
    """row -> its price, where it was read, and its list."""
    found = {}
    for batch in batches:
        offsets, values = np.asarray(batch["history__offsets"]), np.asarray(batch["history__values"])
        for place, row in enumerate(np.asarray(batch["row"]).tolist()):
            assert row not in found
            history = values[offsets[place] : offsets[place + 1]].tolist()
            found[row] = (float(batch["price"][place]) if "price" in batch else None, history)
    return found


@pytest.mark.slow
def test_the_same_rows_in_batches_of_the_same_size(merlin_python, tmp_path):
    files = write_files(tmp_path)
    arrays = read(merlin_python, tmp_path, files, '{"batch_size": 64, "drop_last": false}')
    ours = list(TableStream(files, ("row", "price", "history")).once(64))
    for epoch in ("0", "1"):
        theirs = epoch_of(arrays, epoch)
        assert [len(batch["row"]) for batch in theirs] == [64] * 15 + [43]
        assert {name: values.dtype for name, values in theirs[0].items()} == {
            name: values.numpy().dtype for name, values in ours[0].items()
        }
        assert histories(theirs) == histories(ours)
    rows = [np.concatenate([batch["row"] for batch in epoch_of(arrays, epoch)]) for epoch in ("0", "1")]
    assert not np.array_equal(rows[0], rows[1])
    resumed = np.concatenate([batch["row"] for batch in epoch_of(arrays, "resumed")])
    np.testing.assert_array_equal(resumed, rows[1][3 * 64 :])


@pytest.mark.slow
def test_the_last_batch_and_the_columns(merlin_python, tmp_path):
    files = write_files(tmp_path)
    settings = '{"batch_size": 64, "columns": ["row", "history"], "shuffle": false}'
    theirs = epoch_of(read(merlin_python, tmp_path, files, settings), "0")
    assert [row for batch in theirs for row in batch["row"].tolist()] == list(range(15 * 64))
    ours = histories(TableStream(files, ("row", "history")).once(64))
    assert histories(theirs) == {row: told for row, told in ours.items() if row < 15 * 64}


@pytest.mark.skipif("merlin" in sys.modules, reason="merlin-dataloader is there")
def test_without_merlin_the_error_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"pip install -r containers/merlin\.txt"):
        MerlinLoader((tmp_path / "x.parquet",), batch_size=4)
