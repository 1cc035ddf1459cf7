"""Publishers' layouts become folders of pictures by split and class, pixel by pixel."""

import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from challenges.data_sets import arranging
from common.errors import DataError

CLASSES = ("cat", "dog or wolf")


def nothing(done, total):
    assert done <= total


def pixels(folder, split, name):
    return [np.asarray(Image.open(path)) for path in sorted((folder / "pictures" / split / name).glob("*.png"))]


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3)])
def test_arrays(tmp_path, shape):
    made = np.random.default_rng(0)
    (tmp_path / "arrays").mkdir()
    images, labels = {}, {}
    for split, count in (("train", 5), ("val", 3), ("test", 2)):
        images[split] = made.integers(0, 256, (count, *shape), np.uint8)
        labels[split] = np.arange(count).reshape(-1, 1) % 2
        np.save(tmp_path / "arrays" / f"{split}_images.npy", images[split])
        np.save(tmp_path / "arrays" / f"{split}_labels.npy", labels[split])
    arranging.of_arrays("arrays", CLASSES)(tmp_path, nothing)
    for split in images:
        for label, name in enumerate(CLASSES):
            np.testing.assert_array_equal(pixels(tmp_path, split, name), images[split][labels[split][:, 0] == label])
    assert not (tmp_path / "arrays").exists()


def write_idx(path, array):
    head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()))


def write_idx_files(folder, labels_of_test):
    (folder / "idx").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 5), np.uint8)
    for name, labels in (("train", [1, 0, 1, 1]), ("t10k", labels_of_test)):
        write_idx(folder / "idx" / f"{name}-images-idx3-ubyte.gz", images[: len(labels)])
        write_idx(folder / "idx" / f"{name}-labels-idx1-ubyte.gz", np.array(labels, np.uint8))
    return images


def test_idx(tmp_path):
    images = write_idx_files(tmp_path, [0, 1])
    arranging.of_idx("idx", CLASSES)(tmp_path, nothing)
    np.testing.assert_array_equal(pixels(tmp_path, "train", "dog or wolf"), images[[0, 2, 3]])
    np.testing.assert_array_equal(pixels(tmp_path, "test", "cat"), images[[0]])


def test_a_label_without_a_class_and_a_cut_file_are_refused(tmp_path):
    write_idx_files(tmp_path, [0, 2])
    with pytest.raises(DataError, match="label 2"):
        arranging.of_idx("idx", CLASSES)(tmp_path, nothing)
    file = tmp_path / "idx" / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:-1]))
    with pytest.raises(DataError, match="does not hold 2 × 3 × 5"):
        arranging.of_idx("idx", CLASSES)(tmp_path, nothing)


def test_pets_by_the_publishers_lists(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    for name in ("Great_Dane_1", "Great_Dane_2", "Sphynx_9", "Unlisted_3"):
        (tmp_path / "images" / f"{name}.jpg").write_text(name)
    (tmp_path / "annotations" / "trainval.txt").write_text("#a comment\nGreat_Dane_1 1 2 1\nSphynx_9 2 1 1\n")
    (tmp_path / "annotations" / "test.txt").write_text("Great_Dane_2 1 2 1\n")
    arranging.pets(tmp_path, nothing)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jpg")}
    assert found == {
        "pictures/train/Great Dane/Great_Dane_1.jpg",
        "pictures/train/Sphynx/Sphynx_9.jpg",
        "pictures/test/Great Dane/Great_Dane_2.jpg",
    }


def test_a_list_of_pets_leads_nowhere_else(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "trainval.txt").write_text("../../secret_1 1 1 1\n")
    (tmp_path / "annotations" / "test.txt").write_text("")
    with pytest.raises(DataError, match="names pictures"):
        arranging.pets(tmp_path, nothing)


def test_ppm_keeps_its_pixels(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    (tmp_path / "00007").mkdir()
    Image.fromarray(picture).save(tmp_path / "00007" / "00000_00001.ppm")
    arranging.ppm_as_png(tmp_path, nothing)
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert path.name == "00000_00001.png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), picture)
