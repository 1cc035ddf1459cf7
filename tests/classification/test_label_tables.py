"""Tables that name pictures and their classes, as competitions and archives have them."""

from pathlib import Path

import pytest

from challenges.choosing import choose_model
from challenges.classification.held_out import check as check_held_out
from challenges.classification.layout import Layout, find_layout, list_photographs
from common.errors import DataError
from tests.classification.test_check import check, fill


def table(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def pictures(root: Path, *paths: str) -> None:
    """Files that are listed and never opened."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")


def layout(root: Path, column: str | None = None) -> Layout:
    return find_layout(root, list_photographs(root), column)


def classes_of(found: Layout) -> dict[str, str]:
    return {file.path: name for file, name in zip(found.files, found.classes, strict=True)}


def refusal(root: Path, column: str | None = None) -> str:
    with pytest.raises(DataError) as caught:
        layout(root, column)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


NUMBERS = [f"{number:03d}" for number in range(6)]
KINDS = ["cat", "dog"] * 3


@pytest.mark.parametrize(
    ("header", "row", "folder"),
    [
        ("id,breed", "{0},{1}", "train"),
        ("image_id;dx", "{0};{1}", "images_part_1"),
        ("Image Index,Finding Labels,Patient Age", "{0}.jpg,{1},61", "images"),
        ("path\tsex\tlabel", "images/{0}.jpg\tm\t{1}", "images"),
        ("label,file", '"{1}","/kaggle/input/pets/images/{0}.JPG"', "images"),
        ("file,kind", "{0}.jpg,{1}", ""),
        ("image,cat,dog", "{0},{2:.1f},{3:.1f}", "images"),
        ("file,class_id,class_name", "{0}.jpg,{3},{1}", "images"),
        ("\ufefffile,target", " {0}.jpg , {1} ", "images"),
    ],
)
def test_pictures_and_classes_are_found_by_what_columns_hold(tmp_path, header, row, folder):
    pictures(tmp_path, *(f"{folder}/{number}.jpg".lstrip("/") for number in NUMBERS))
    rows = [
        row.format(number, kind, kind == "cat", int(kind == "dog")) for number, kind in zip(NUMBERS, KINDS, strict=True)
    ]
    table(tmp_path / "labels.csv", "\n".join([header, *rows]) + "\n")
    found = layout(tmp_path)
    assert list(classes_of(found).values()) == KINDS
    assert (found.kind, found.notes) == ("flat", ())
    assert "labels.csv, whose column" in found.understood["classes"]
    assert choose_model(tmp_path).model == "resnet50"


def test_classes_called_like_pictures_are_not_taken_for_them(tmp_path):
    pictures(tmp_path, *(f"{number}.png" for number in range(6)))
    table(tmp_path / "labels.csv", "label,number\n" + "".join(f"{number % 2},{number}\n" for number in range(6)))
    assert layout(tmp_path).classes == ("0", "1") * 3


def test_parts_come_from_a_column_from_tables_names_or_from_folders(tmp_path):
    rows = "".join(f"{number}.jpg,{kind},{{}}\n" for number, kind in zip(NUMBERS, KINDS, strict=True))
    pictures(tmp_path / "column", *(f"all/{number}.jpg" for number in NUMBERS))
    table(tmp_path / "column/meta.csv", "file,label,split\n" + rows.format(*["train"] * 4, "valid", "valid"))
    assert layout(tmp_path / "column").splits == ("train",) * 4 + ("val",) * 2

    pictures(tmp_path / "tables", *(f"{part}/{number}.jpg" for part in ("train", "test") for number in NUMBERS[:2]))
    table(tmp_path / "tables/train.csv", "id,label\n000,cat\n001,dog\n")
    table(tmp_path / "tables/test.csv", "id,label\n000,dog\n001,cat\n")
    found = layout(tmp_path / "tables")
    assert classes_of(found)["test/000.jpg"] == "dog"
    assert found.splits == ("val", "val", "train", "train")
    assert found.understood["splits"] == "val 2, train 2"

    pictures(
        tmp_path / "folders", *(f"{part}/{part}{number}.jpg" for part in ("train", "val") for number in NUMBERS[:2])
    )
    table(tmp_path / "folders/a.csv", "name,label\ntrain000,a\ntrain001,b\nval000,a\nval001,b\n")
    assert layout(tmp_path / "folders").splits == ("train", "train", "val", "val")


def test_what_a_table_does_not_name_is_left_aside_and_told(tmp_path):
    pictures(tmp_path, *(f"train/{number}.jpg" for number in NUMBERS), "test/900.jpg")
    table(tmp_path / "train.csv", "id,label\n000,cat\n001,dog\n002,cat\n003,\n004,dog\n005,fox\n777,dog\n")
    table(tmp_path / "sample_submission.csv", "id,label\n900,cat\n")
    table(tmp_path / "test.csv", "id\n900\n")
    found = layout(tmp_path)
    assert sorted(Path(path).stem + name for path, name in classes_of(found).items()) == [
        "000cat", "001dog", "002cat", "004dog"
    ]  # fmt: skip
    assert found.notes == (
        "fox: one picture each, too few to learn from and to judge by: left aside.",
        "2 images have no class in the table, such as test/900.jpg: left aside.",
        "1 rows of the table name no picture that is there, such as 777.",
    )


def test_folders_that_are_only_parts_give_way_to_a_table_and_true_classes_do_not(tmp_path):
    paths = [f"part_{number % 2}/{number}.jpg" for number in range(12)]
    pictures(tmp_path, *paths)
    kinds = ["nv", "nv", "mel"] * 4
    table(tmp_path / "meta.csv", "id,dx\n" + "".join(f"{number},{kind}\n" for number, kind in enumerate(kinds)))
    found = layout(tmp_path)
    assert set(found.classes) == {"nv", "mel"}
    assert found.notes[0] == "Folders (part_0, part_1) are no classes here: meta.csv names others."
    table(tmp_path / "meta.csv", "id,dx\n" + "".join(f"{number},{number % 2}\n" for number in range(12)))
    assert set(layout(tmp_path).classes) == {"part_0", "part_1"}
    table(tmp_path / "meta.csv", "id,age\n" + "".join(f"{number},{number % 3}\n" for number in range(12)))
    assert set(layout(tmp_path).classes) == {"part_0", "part_1"}
    assert set(layout(tmp_path, "age").classes) == {"0", "1", "2"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,label,category\n000,a,x\n001,b,x\n002,b,y\n", "several columns that may hold classes: category, label"),
        ("id,label\n000,a\n000,b\n001,a\n", "no single class in labels.csv, such as 000.jpg (000: b)"),
        ("id,label\n000,a|b\n001,a\n", "(000: a|b)"),
        ("id,age,sex\n000,3,m\n001,4,f\n", "none of its columns is called like classes: age, id, sex"),
        ("name,size\nx,a\ny,b\n", "without folders of classes"),
    ],
)
def test_what_is_open_is_refused(tmp_path, text, told):
    pictures(tmp_path, *(f"{number}.jpg" for number in NUMBERS))
    table(tmp_path / "labels.csv", text)
    assert told in refusal(tmp_path)


def test_numbers_to_be_estimated_two_tables_and_unknown_columns_are_refused(tmp_path):
    names = [f"{number}" for number in range(40)]
    pictures(tmp_path, *(f"{name}.jpg" for name in names))
    table(tmp_path / "ages.csv", "file,age\n" + "".join(f"{name},{7 * int(name)}\n" for name in names))
    assert "40 different values for 40 pictures in the column age" in refusal(tmp_path)
    assert "no table in" in refusal(tmp_path, "kind")
    table(tmp_path / "labels.csv", "file,label\n0,a\n1,b\n")
    table(tmp_path / "folds.csv", "file,label\n0,a\n1,b\n")
    assert "ages.csv, folds.csv, labels.csv all say what pictures" in refusal(tmp_path)


def test_pictures_of_one_patient_stay_together_and_are_told_where_a_given_split_parts_them(tmp_path):
    fill(tmp_path, {"images": 40})
    rows = [f"{number:03d},{'ill' if number < 20 else 'well'},P{number // 4}" for number in range(40)]
    table(tmp_path / "meta.csv", "image_id,dx,patient_id\n" + "\n".join(rows) + "\n")
    report = check(tmp_path, tmp_path / ".out")
    assert report.record["understood"]["splits"].endswith("all of one group together, by the column patient_id")
    manifest = report.manifest
    patients = {
        split: {int(Path(path).stem) // 4 for path in manifest.subset(split).paths} for split in ("train", "val")
    }
    assert not patients["train"] & patients["val"]
    assert report.record["leaks"]["val"]["affected"] == 0
    parted = [f"{row},{'val' if number % 4 == 3 else 'train'}" for number, row in enumerate(rows)]
    table(tmp_path / "meta.csv", "image_id,dx,patient_id,split\n" + "\n".join(parted) + "\n")
    leaking = check(tmp_path, tmp_path / ".out")
    assert leaking.record["leaks"]["val"]["kinds"]["group"]["count"] == 10


def test_boxes_stay_a_detectors(tmp_path):
    pictures(tmp_path, *(f"images/{number}.jpg" for number in NUMBERS))
    table(tmp_path / "labels.csv", "filename,class,xmin,ymin,xmax,ymax\n000.jpg,cat,1,2,3,4\n001.jpg,dog,1,2,3,4\n")
    assert choose_model(tmp_path).model == "ssd300"


def test_the_check_follows_the_table_and_a_run_is_judged_by_one(tmp_path):
    fill(tmp_path, {"images": 20})
    rows = "".join(f"{number:03d}.jpg,{'cat' if number < 8 else 'dog'}\n" for number in range(20))
    table(tmp_path / "labels.csv", f"file,label\n{rows}")
    first = check(tmp_path, tmp_path / ".out")
    assert first.record["counts"]["train"] == {"cat": 6, "dog": 10}
    assert check(tmp_path, tmp_path / ".out").reused
    table(tmp_path / "labels.csv", f"file,label\n{rows}".replace("007.jpg,cat", "007.jpg,dog"))
    second = check(tmp_path, tmp_path / ".out")
    assert not second.reused
    assert second.manifest.fingerprint != first.manifest.fingerprint
    judged = check_held_out(tmp_path, tmp_path / ".judged", second.manifest, workers=0)
    assert judged.summary["samples"] == 20
    table(tmp_path / "labels.csv", f"file,label\n{rows}".replace("000.jpg,cat", "000.jpg,fox"))
    with pytest.raises(DataError, match="has classes that the run has not learnt: fox"):
        check_held_out(tmp_path, tmp_path / ".judged", second.manifest, workers=0)
