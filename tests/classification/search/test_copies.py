"""Copies that were made on purpose, within and across splits, and no others; a split drawn anew keeps them whole."""

import csv
import io
import shlex

import numpy as np
import pytest
from PIL import Image, ImageOps

from challenges.__main__ import main
from challenges.classification import check as module
from challenges.classification.recipes import DataConfig
from challenges.classification.search import copies
from challenges.classification.search.copies import (
    GROUPS,
    PAIRS,
    affected,
    groups_of,
    looks_of,
    print_copies,
    proposed,
    proven,
    thumbnail_vectors,
    where,
    write_copies,
)
from challenges.classification.search.embedding import normalised
from common.errors import DataError
from common.terminal.console import SafeConsole
from tests.common.vision.picture_files import encode
from tests.common.vision.test_same_picture import scene

pytest.importorskip("faiss", reason="no search without the extra similar: pip install '.[similar]'")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Six pictures each of two classes to learn from, three to judge, beside which four are known in some way."""
    root = tmp_path_factory.mktemp("data") / "photos"
    for position, name in enumerate("ab"):
        for split, count in (("train", 6), ("val", 3)):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                seed = 100 * position + number + (50 if split == "val" else 0)
                (root / split / name / f"{number}.png").write_bytes(encode(scene(seed), "PNG"))

    def known(number):
        return Image.open(root / "train" / "a" / f"{number}.png")

    def put(path, picture, **options):
        (root / path).write_bytes(encode(picture, "JPEG" if path.endswith("jpg") else "PNG", **options))

    (root / "val/a/exact.png").write_bytes((root / "train/a/0.png").read_bytes())
    put("val/a/recompressed.jpg", known(1), quality=30)
    put("val/a/cropped.jpg", known(2).crop((20, 12, 170, 130)), quality=90)
    put("val/b/mirrored.jpg", ImageOps.mirror(known(3)), quality=90)
    put("train/b/inside.jpg", known(4), quality=50)
    return root


@pytest.fixture(scope="module")
def checked(made, tmp_path_factory):
    return module.check(made, tmp_path_factory.mktemp("check"), workers=0, progress=lambda done, total: None).manifest


EXPECTED = {
    ("train/a/0.png", "val/a/exact.png"): ("identical", "training and validation"),
    ("train/a/1.png", "val/a/recompressed.jpg"): ("near-identical", "training and validation"),
    ("train/a/2.png", "val/a/cropped.jpg"): ("part", "training and validation"),
    ("train/a/3.png", "val/b/mirrored.jpg"): ("mirrored", "training and validation"),
    ("train/a/4.png", "train/b/inside.jpg"): ("near-identical", "inside training"),
}


def found(manifest, *vectors):
    looks, thumbnails = looks_of(manifest)
    pairs = proposed(*(vectors or thumbnail_vectors(thumbnails)))
    return list(proven(manifest, looks, pairs, lambda done, total: None))


def told(manifest, pairs):
    return {(manifest.paths[one.one], manifest.paths[one.other]): (one.kind, where(manifest, one)) for one in pairs}


def test_of_few_pictures_every_copy_is_found_and_nothing_else(checked):
    assert told(checked, found(checked)) == EXPECTED


def test_of_many_pictures_thumbnails_propose_all_but_crops(checked, monkeypatch):
    monkeypatch.setattr(copies, "COMPARED", 1)
    monkeypatch.setattr(copies, "NEIGHBOURS", 1)
    pairs = told(checked, found(checked))
    assert pairs.items() >= {key: kind for key, kind in EXPECTED.items() if kind[0] != "part"}.items()
    assert pairs.items() <= EXPECTED.items()


def test_vectors_that_know_crops_propose_every_copy_and_the_pixels_refuse_all_others(checked, monkeypatch):
    monkeypatch.setattr(copies, "COMPARED", 1)
    # how often each colour occurs: neither a crop nor a mirror changes it much, and neighbours are wrong as a rule
    from challenges.classification.search.measuring import colour_histograms

    pictures = [np.asarray(Image.open(checked.root / path).convert("RGB").resize((64, 48))) for path in checked.paths]
    pairs = found(checked, normalised(np.sqrt(colour_histograms(np.stack(pictures)))))
    assert told(checked, pairs) == EXPECTED
    groups = groups_of(checked, pairs)
    assert groups["val/b/mirrored.jpg"] == "train/a/3.png"
    assert affected(checked, groups) == {"val": (4, 10)}


def test_a_split_by_group_keeps_what_was_found_together(made, checked, tmp_path):
    pairs = found(checked)
    groups = groups_of(checked, pairs)
    write_copies(checked, pairs, groups, tmp_path)
    with (tmp_path / PAIRS).open(newline="") as stream:
        assert ("train/a/3.png", "val/b/mirrored.jpg", "mirrored") in {tuple(row)[:3] for row in csv.reader(stream)}
    screen = SafeConsole(record=True, width=200, file=io.StringIO())
    print_copies(checked, pairs, groups, tmp_path, screen)
    shown = screen.export_text()
    assert "4 of 10 validation pictures (40.0%) are in training, too" in shown
    assert "train/a/2.png = val/a/cropped.jpg" in shown
    for seed in range(2):
        config = DataConfig(split="by-group", groups=tmp_path / GROUPS)
        options = {"config": config, "seed": seed, "workers": 0, "progress": lambda done, total: None}
        anew = module.check(made, tmp_path / f"anew-{seed}", **options)
        assert affected(anew.manifest, groups)["val"][0] == 0
        assert anew.record["leaks"]["val"]["affected"] == 0
        assert len(anew.manifest) == len(checked)


def test_the_file_of_groups_says_what_is_wrong_with_it(made, tmp_path):
    for text, reason in (("path,set\na,b\n", "group"), (None, "No such file")):
        path = tmp_path / "groups.csv"
        path.unlink(missing_ok=True)
        if text:
            path.write_text(text)
        with pytest.raises(DataError, match=reason):
            module.check(made, tmp_path / "out", config=DataConfig(groups=path), workers=0)


def test_chains_are_one_group_and_nothing_found_is_said(checked, tmp_path):
    from challenges.classification.search.copies import Pair

    joined = groups_of(checked, [Pair(3, 4, "part"), Pair(1, 3, "part"), Pair(4, 7, "part"), Pair(8, 9, "part")])
    assert set(joined.values()) == {checked.paths[1], checked.paths[8]}
    assert len(joined) == 6
    screen = SafeConsole(record=True, file=io.StringIO())
    print_copies(checked, [], {}, tmp_path, screen)
    assert "none found" in screen.export_text()


def test_the_verb_tells_the_share_and_prints_what_trains_with_copies_together(made, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("CHALLENGE_KIT_CACHE", str(tmp_path))
    assert main(["check", str(made), "--model", "resnet50", "--similar", "--resplit", "by-group"]) == 0
    shown = capsys.readouterr().out
    assert "4 of 10 validation pictures (40.0%) are in training, too" in shown
    parts = shlex.split(shown.split("To train so: ")[1].splitlines()[0])
    assert parts[:5] == ["kit", "challenge", "resnet50", "--data", str(made)]
    assert parts[5:8] == ["--data.split", "by-group", "--data.groups"]
    with open(parts[8], newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 10
    assert main(["check", str(made), "--model", "ssd300", "--similar"]) == 2
