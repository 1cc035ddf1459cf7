import numpy as np
import pytest

from common.errors import DataError
from common.files import read_csv, write_text
from common.vision.image_folders import (
    Listing,
    displayed,
    hash_order,
    identical_files,
    list_images,
    refuse_without_images,
    store_check,
    stored_check,
    units_of,
)


def test_images_and_annotations_are_listed_apart(tmp_path):
    for name in ("b/x.JPG", "a.png", "b/x.xml", "notes.md", ".hidden/y.jpg", "table.csv", "c.XML"):
        write_text(tmp_path / name, "x")
    listing = list_images(tmp_path, "", {".xml"})
    assert [file.path for file in listing.files] == ["a.png", "b/x.JPG"]
    assert [file.path for file in listing.annotations] == ["b/x.xml", "c.XML"]
    assert listing.others == {".md": 1, ".csv": 1}
    alone = list_images(tmp_path, "")
    assert alone.files == listing.files
    assert (alone.annotations, alone.others[".xml"]) == ((), 2)
    assert alone.fingerprint != listing.fingerprint


def test_fingerprints_follow_annotations(tmp_path):
    for name in ("a.png", "a.xml"):
        write_text(tmp_path / name, "x")
    before = list_images(tmp_path, "", {".xml"}).fingerprint
    assert list_images(tmp_path, "", {".xml"}).fingerprint == before
    write_text(tmp_path / "a.xml", "longer")
    assert list_images(tmp_path, "", {".xml"}).fingerprint != before


def test_folders_without_images_say_what_they_hold(tmp_path):
    write_text(tmp_path / "a.heic", "x")
    with pytest.raises(DataError, match=r"holds no images. Found: 1 x .heic"):
        refuse_without_images(tmp_path, list_images(tmp_path, "layouts"), "layouts")
    with pytest.raises(DataError, match="nothing"):
        refuse_without_images(tmp_path, Listing((), {}), "layouts")


def test_identical_files_and_groups_are_one_unit():
    paths, digests = ["a", "b", "c", "d", "e"], ["1", "2", "1", "3", "4"]
    assert units_of(paths, digests, [None, "g", None, "g", None]) == ["a", "b", "a", "b", "e"]
    assert units_of(paths, digests, [None, "g", "g", None, None]) == ["a", "a", "a", "d", "e"]
    assert identical_files(np.asarray(digests, object)) == [[0, 2]]


def test_hash_order_leaves_others_in_place():
    names = [f"{number}" for number in range(50)]
    order = hash_order(names, 1)
    assert sorted(order) == sorted(names)
    assert [name for name in hash_order([*names, "new"], 1) if name != "new"] == order
    assert hash_order(names, 2) != order


def test_a_check_is_found_again_only_where_it_fits(tmp_path):
    record = {"format": 1, "fingerprint": "f", "arguments": {"seed": 0}}
    store_check(tmp_path, record, [("a", "code", "why, really")], lambda folder: write_text(folder / "table", "x"))
    assert (tmp_path / "table").read_text() == "x"
    found = stored_check(tmp_path, 1, "f", {"seed": 0})
    assert found == (record, [{"path": "a", "code": "code", "reason": "why, really"}])
    assert read_csv(tmp_path / "quarantine.csv") == found[1]
    assert stored_check(tmp_path, 2, "f", {"seed": 0}) is None
    assert stored_check(tmp_path, 1, "g", {"seed": 0}) is None
    assert stored_check(tmp_path, 1, "f", {"seed": 1}) is None
    (tmp_path / "check.json").write_text("[1]")
    assert stored_check(tmp_path, 1, "f", {"seed": 0}) is None


def test_a_check_that_is_interrupted_is_not_found(tmp_path):
    record = {"format": 1, "fingerprint": "f", "arguments": {}}
    store_check(tmp_path, record, [], lambda folder: None)

    def fail(folder: object) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        store_check(tmp_path, record, [], fail)
    assert stored_check(tmp_path, 1, "f", {}) is None


def test_names_are_displayed_whatever_they_hold():
    assert displayed("a/ä.jpg") == "a/ä.jpg"
    assert displayed("caf\udce9.jpg") == "caf\\xe9.jpg"
