"""Folders as people and archives name them: splits, wrappers, nested and misspelt classes, leftovers."""

import unicodedata
from pathlib import Path

import pytest
from rich.console import Console

from challenges.classification.class_names import alike, copies, difference, key, matched, nearest
from challenges.classification.layout import Layout, find_layout
from challenges.classification.split_folders import find_bases, picture_tree
from common.errors import DataError
from common.files import read_csv, read_json
from common.vision.image_folders import ListedFile, Listing
from tests.classification.test_check import check, error_of, fill

NFC, NFD = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")


def layout(*folders: str, direct: int = 3, root: Path = Path("/data")) -> Layout:
    """The layout of so many pictures in each folder; nothing is opened."""
    paths = sorted(f"{folder}/{number}.jpg".lstrip("/") for folder in folders for number in range(direct))
    return find_layout(root, Listing(tuple(ListedFile(path, 1, 1) for path in paths), {}))


def refusal(*folders: str) -> str:
    with pytest.raises(DataError) as caught:
        layout(*folders)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def inside(*tops: str) -> list[str]:
    return [f"{top}/{name}" for top in tops for name in ("cat", "dog")]


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ("train", "val"),
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("train_set", "val_set"),
        ("training", "validation"),
        ("trainSet", "testSet"),
        ("train-data", "eval data"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("archive/train", "archive/valid"),
        ("a/b/Train images", "a/b/dev"),
        ("train2017", "val2017"),
    ],
)
def test_split_folders_are_known_by_many_names(train, validation):
    found = layout(*inside(train, validation))
    assert (found.kind, set(found.classes)) == ("split", {"cat", "dog"})
    assert found.splits.count("train") == found.splits.count("val") == 6
    assert found.understood["splits"].startswith(f"train = {train}/, val = {validation}/")
    assert found.notes == ()


def test_a_test_folder_validates_only_where_there_is_no_other():
    assert "test folder" in layout(*inside("train", "test")).understood["splits"]
    found = layout(*inside("train", "test", "val"))
    assert found.understood["splits"] == "train = train/, val = val/, test = test/"
    assert found.splits.count("test") == found.splits.count("val") == 6
    assert found.notes == ()


def test_classes_that_only_the_test_folder_has_are_left_aside_and_told():
    found = layout(*inside("train", "val"), "test/Cat", "test/fox")
    taken = {file.path: name for file, name in zip(found.files, found.classes, strict=True)}
    assert taken["test/Cat/0.jpg"] == "cat"
    assert "3 images of classes that training does not have (fox), such as test/fox/0.jpg: left aside." in found.notes
    assert any("The test folder 'Cat' is taken for the class 'cat'" in note for note in found.notes)


def test_a_test_folder_without_classes_is_left_aside():
    for unlabelled in ("test", "test/test", "test/unknown"):
        found = layout(*inside("train"), unlabelled)
        assert (found.kind, set(found.classes)) == ("flat", {"cat", "dog"})
        assert found.understood["splits"] == "validation pictures are drawn from every class in train/"
        assert "test/ is not used" in found.notes[0]
    assert "val holds 3 images directly" in refusal(*inside("train"), "val")


def test_other_folders_beside_splits_are_named():
    found = layout(*inside("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred")
    assert found.kind == "split"
    assert found.notes == (
        "seg_pred/ is not used: seg_test/seg_test/ is used for validation (3 images, such as seg_pred/seg_pred/0.jpg).",
    )
    assert layout(*inside("train", "train_masks", "val")).splits.count("train") == 6


def test_a_single_outer_folder_is_passed_through():
    for outer in ("dataset", "a/b/c", "train", "Testing"):
        found = layout(*inside(outer))
        assert (found.kind, set(found.classes)) == ("flat", {"cat", "dog"})
        assert found.understood["classes"] == f"2, the folders in {outer}/: cat, dog"


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        (inside("first", "second"), "first, second in /data hold the same subfolders with pictures (cat, dog)"),
        (["x/Cat", "x/Dog", "y/cat", "y/dog"], "x, y in /data hold the same subfolders with pictures (Cat, Dog)"),
        (inside("fold1", "fold2", "fold3"), "fold1, fold2, fold3 in /data hold the same subfolders"),
        (inside("colour", "grey", "train"), "train is called like a split"),
        (inside("train/a", "train/b", "val"), "a, b in /data/train hold the same subfolders"),
        (["cat/train", "cat/val", "dog/train", "dog/val"], "Turn them round: /data/train/cat/photo.jpg"),
        ([*inside("brain/Training", "brain/Testing"), "more"], "Name /data/brain to use it alone"),
        ([*inside("augmented"), "cat", "dog"], "(cat, dog) that are called like the folders beside it (cat, dog)"),
        ([*(f"Dataset/{digit}" for digit in range(10)), "Examples"], "30 pictures of 33, and the folders beside it"),
        ([*(f"Dataset/{digit}" for digit in range(10)), "Examples"], "name it: /data/Dataset"),
        (["train", "val"], "without folders of classes"),
        (["cats_train", "cats_test", "dogs_train", "dogs_test"], "cats_train holds 3 images directly"),
        (["trainA", "trainB", "testA", "testB"], "called like a split"),
        (inside("train", "Training", "val"), "are all called like the same split"),
        (inside("train_1", "train_2", "test"), "are all called like the same split"),
        (inside("val", "test"), "nothing beside it"),
        ([*inside("train"), "unlabelled"], "nothing beside it (unlabelled) is its counterpart"),
        (["images", "masks"], "masks/ in /data is called like masks of what images/ shows"),
        (["train/Image", "train/Ground Truth", "val/Image", "val/Ground Truth"], "Ground Truth/ in /data/train is"),
        (["images/a", "images/b", "annotations/trimaps"], "annotations/ in /data is called like masks"),
        (["JPEGImages", "SegmentationClass", "SegmentationObject"], "SegmentationObject/ in /data are called like"),
        (["data/images", "data/masks"], "masks/ in /data/data is called like masks of what images/ shows"),
        (["train", "train_masks"], "train_masks/ in /data is called like masks of what train/ shows"),
    ],
)
def test_open_questions_are_refused_with_what_to_do(folders, told):
    assert told in refusal(*folders)


def test_names_alone_make_no_split():
    assert set(layout("train", "plane", "test tube").classes) == {"train", "plane", "test tube"}
    assert set(layout("valid", "invalid").classes) == {"valid", "invalid"}
    assert set(layout("train_val", *inside("boat")).classes) == {"train_val", "boat"}
    for classes in ("with mask", "without mask"), ("masks", "caps", "images"), ("photos", "drawings"), ("face", "mask"):
        assert set(layout(*classes).classes) == set(classes)


def test_nested_classes_are_told():
    found = layout("birds/eagle", "birds/owl", "mammals/fox", "mammals/wolf")
    assert set(found.classes) == {"birds", "mammals"}
    assert "12 pictures lie deeper" in found.notes[0]
    assert "birds/eagle/0.jpg: taken for the class birds, not eagle" in found.notes[0]
    (note,) = layout("train/cat/young", "train/dog", "val/cat", "val/dog").notes
    assert note.startswith("3 pictures lie deeper")
    assert layout("cat/images", "dog/images").classes[0] == "cat"
    patients = [f"healthy/p{number}" for number in range(30)]
    assert set(layout(*patients, "ill/p30", "ill/p31").classes) == {"healthy", "ill"}
    assert set(layout("cat/young", "cat/old", "dog").classes) == {"cat", "dog"}


def test_masks_inside_classes_are_left_aside():
    found = layout(*(f"{name}/{part}" for name in ("COVID", "Normal") for part in ("images", "masks")))
    assert {file.folder for file in found.files} == {"COVID/images", "Normal/images"}
    assert found.notes[0].startswith("6 images are masks, which mark what the images beside them show, such as COVID/m")


def test_a_class_that_a_run_has_learnt_may_hold_all_but_a_few_pictures():
    tree = picture_tree({**{f"healthy/p{number}": 3 for number in range(30)}, "ill": 3})
    _, (base,) = find_bases(Path("/data"), tree, known=("healthy", "ill"))
    assert set(base.folder.folders) == {"healthy", "ill"}
    with pytest.raises(DataError, match="healthy in /data holds folders"):
        find_bases(Path("/data"), tree)


@pytest.mark.parametrize(
    ("theirs", "ours", "differs"),
    [
        (NFD, NFC, "Unicode form ('cafe\\u0301' and 'caf\\xe9')"),
        ("Cat", "cat", "case ('Cat' and 'cat')"),
        (" cat ", "cat", "outer spaces (' cat ' and 'cat')"),
        ("ｃａｔ", "cat", "Unicode form"),
        ("cat\u200b", "cat", "spelling ('cat\\u200b' and 'cat')"),
    ],
)
def test_class_folders_that_mean_the_same_are_matched(theirs, ours, differs):
    found = layout(f"train/{ours}", "train/dog", f"val/{theirs}", "val/dog")
    assert set(found.classes) == {ours, "dog"}
    assert found.classes.count(ours) == 6
    (note,) = found.notes
    assert differs in note


def test_class_folders_are_matched_only_where_it_is_clear_which():
    assert matched(["a", "A"], ["a", "A"]) == {}
    assert matched(["a", "b"], ["a", "A", "b"]) == {}
    assert matched(["a", "A"], ["ａ"]) == {}
    assert matched(["a"], ["A", " a"]) == {}
    assert matched(["straße", "strasse"], ["Straße"]) == {"Straße": "straße"}
    assert key("Straße") != key("Strasse")
    assert difference("Cat", "cat") == "case"
    assert alike(["a", "A", "b"]) == [("A", "a")]
    assert any("two classes" in note for note in layout("a", "A", "b").notes)
    assert nearest("glioma ", ["gliomas", "none"]) == "gliomas"
    assert nearest("x", ["none"]) is None


def test_class_folders_that_do_not_match_are_shown_side_by_side(tmp_path):
    root, output = tmp_path / "data", tmp_path / "out"
    fill(root, {"train/a": 2, "train/meningioma": 2, "val/a": 2, "val/meningoma": 2})
    assert "'meningoma' and 'meningioma' differ in spelling" in error_of(root, output)
    fill(root, {"train/ä": 2, "val/A": 2, "val/meningioma": 2, "train/meningoma": 2})
    assert "'A' and 'a' differ in case" in error_of(root, output)


def test_copied_folders_are_named():
    found = copies({"bee", "bee - Copy", "bee - Kopie (2)", "Bee copy 3", "bee (1)", "ant_copy", "page 1", "page 2"})
    assert found == dict.fromkeys(("bee - Copy", "bee - Kopie (2)", "Bee copy 3", "bee (1)"), "bee")


def test_leftovers_and_empty_folders_are_told(tmp_path):
    root = tmp_path / "data"
    fill(root, {"ant": 3, "bee": 3, "bee - Copy": 3, "ant/.ipynb_checkpoints": 2, "__MACOSX/ant": 2, "bee/@eaDir": 2})
    for name in ("ant/.DS_Store", "bee/Thumbs.db", "ant/._000.jpg", "bee/phone.HEIC", "notes.txt"):
        (root / name).write_bytes(b"x")
    (root / "wasp" / "inside").mkdir(parents=True)
    report = check(root, tmp_path / "out")
    assert report.record["counts"]["train"] == {"ant": 2, "bee": 2, "bee - Copy": 2}
    assert report.record["others"] == {".heic": 1, ".txt": 1}
    ignored = report.record["understood"]["ignored"]
    assert "6 hidden or left by a system, such as __MACOSX/, ant/.DS_Store, ant/._000.jpg" in ignored
    assert "1 .heic" in ignored
    told = " ".join(report.warnings)
    for part in (
        "'bee - Copy' is learnt as a class of its own",
        "Folders without pictures are no classes: wasp",
        "1 .heic",
    ):
        assert part in told, part


def test_an_empty_validation_folder_is_told(tmp_path):
    fill(tmp_path / "data", {"train/a": 3, "train/b": 3})
    (tmp_path / "data" / "val" / "a").mkdir(parents=True)
    report = check(tmp_path / "data", tmp_path / "out")
    assert any("no classes: val." in warning for warning in report.warnings)


def test_a_refusal_keeps_its_reasons(tmp_path):
    root, output = tmp_path / "data", tmp_path / "out"
    fill(root, {"cat": 3, "dog": 2})
    check(root, output)
    for number in range(3):
        (root / "cat" / f"broken{number}.jpg").write_bytes(b"<html>not found</html>")
    (root / "dog" / "001.jpg").write_bytes(b"")
    message = error_of_refused(root, output)
    assert "Left out: 3 not-an-image, 1 zero-byte" in message
    assert "Left out: dog/001.jpg: the file is empty. Copy it again" in message  # the class at fault, not the commonest
    assert str(output / "quarantine.csv") in message
    rows = read_csv(output / "quarantine.csv")
    assert [row["path"] for row in rows] == [f"cat/broken{number}.jpg" for number in range(3)] + ["dog/001.jpg"]
    assert "a web page" in rows[0]["reason"]
    assert not (output / "check.json").exists()


def error_of_refused(root: Path, output: Path) -> str:
    with pytest.raises(DataError) as caught:
        check(root, output)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def test_names_never_reach_the_terminal_as_orders(tmp_path):
    evil = "cat\x1b]0;owned\x07\x9b31m\u202e[red]"
    root, output = tmp_path / "data\x1b[2J", tmp_path / "out"
    fill(root, {f"train/{evil}": 2, f"train/{evil}/deep": 1, "train/dog": 2, f"val/{evil}": 1, "val/dog": 1})
    fill(root, {f"test/{evil}": 1, f"val/{evil.upper()}": 1})
    (root / "train" / evil / "bro\x1bken.jpg").write_bytes(b"")
    (root / "train" / evil / "x.e\x1bxe").write_bytes(b"")
    assert "\x1b" not in error_of_refused(root, output)
    (root / "val" / evil.upper()).rename(root / "val" / "empty\x1b")
    (root / "val" / "empty\x1b" / "000.jpg").unlink()
    report = check(root, output)
    console = Console(record=True, width=200, file=(tmp_path / "printed").open("w"))
    with console.file:
        report.print(console)
    printed = (tmp_path / "printed").read_text()
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(printed)
    assert r"cat\x1b]0;owned\x07\x9b31m\u202e[red]" in printed


def test_how_the_folder_was_understood_is_printed_again_when_nothing_changed(tmp_path):
    root, output = tmp_path / "data", tmp_path / "out"
    fill(root, {"Training/a": 2, "Training/b": 2, "Testing/a": 1, "Testing/b": 1})
    check(root, output)
    report = check(root, output)
    assert report.reused
    assert read_json(output / "check.json")["understood"] == report.record["understood"]
    console = Console(record=True, width=200, file=(tmp_path / "printed").open("w"))
    with console.file:
        report.print(console)
    assert "understood splits: train = Training/, val = Testing/" in (tmp_path / "printed").read_text()


def test_folders_called_like_patients_are_doubted_as_classes():
    notes = layout(*(f"patient{number:03d}" for number in range(9)), "healthy").notes
    assert any("called like single patients" in note for note in notes)
    assert layout("camera", "video", "part of a flower").notes == ()


@pytest.mark.parametrize(("kind", "remedy"), [(".zip", "Unpack"), (".dcm", "Convert them"), (".nef", "Convert them")])
def test_what_there_is_instead_of_images_has_a_remedy(kind, remedy):
    with pytest.raises(DataError, match=remedy):
        find_layout(Path("/data"), Listing((), {kind: 8}))
