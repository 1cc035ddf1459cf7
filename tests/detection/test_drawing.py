from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from challenges.detection.drawing import draw_boxes, draw_detections, read_picture
from challenges.detection.palette import OKABE_ITO, appearance, class_colours, ink_on
from common.errors import DataError
from tests.common.vision.picture_files import encode, oriented, photograph

CLASSES = ("cat", "dog", "ελάφι")


def blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (128, 128, 128))


def closest(colours: np.ndarray) -> float:
    """The smallest distance of two colours for the sight that confuses them most."""
    places = appearance(colours)
    distances = np.linalg.norm(places[:, :, None] - places[:, None], axis=-1).min(0)
    return float(distances[np.triu_indices(len(colours), 1)].min())


def test_colours_do_not_depend_on_how_many_there_are():
    many = class_colours(80)
    assert many.shape == (80, 3)
    for count in (0, 1, 3, 7, 8, 20):
        np.testing.assert_array_equal(class_colours(count), many[:count])
    assert "#{:02X}{:02X}{:02X}".format(*many[0]) == OKABE_ITO[0]


@pytest.mark.parametrize(("count", "least"), [(7, 0.07), (20, 0.055), (80, 0.02)])  # just noticeable: about 0.02
def test_colours_differ_for_every_kind_of_sight(count, least):
    assert closest(class_colours(count)) > least


def test_greys_look_the_same_to_everyone():
    greys = np.repeat(np.arange(0, 256, 51)[:, None], 3, axis=1).astype(np.uint8)
    places = appearance(greys)
    np.testing.assert_allclose(places, np.broadcast_to(places[:1], places.shape), atol=1e-3)


def test_letters_contrast_with_their_ground():
    assert ink_on(np.array([[255, 255, 0], [0, 0, 160]], np.uint8)).tolist() == [[0, 0, 0], [255, 255, 255]]


def test_a_box_is_drawn_on_its_own_pixels():
    image = blank(100, 80)
    draw_boxes(image, np.array([[10.0, 20, 60, 70]]), [""], np.array([[255, 0, 0]], np.uint8))
    red = (np.asarray(image) == (255, 0, 0)).all(-1)
    expected = np.zeros((80, 100), bool)
    expected[20:70, 10:60] = True
    expected[21:69, 11:59] = False
    np.testing.assert_array_equal(red, expected)


def test_lines_grow_with_the_picture():
    widths = []
    for side in (100, 1000, 3000):
        image = blank(side, side)
        draw_boxes(image, np.array([[0.2, 0.2, 0.8, 0.8]]) * side, [""], np.array([[255, 0, 0]], np.uint8))
        widths.append(int((np.asarray(image)[side // 2, : side // 2] == (255, 0, 0)).all(-1).sum()))
    assert widths == [1, 4, 12]


def test_dashes_leave_gaps():
    image = blank(100, 80)
    draw_boxes(image, np.array([[10.0, 20, 60, 70]]), [""], np.array([[255, 0, 0]], np.uint8), dashed=True)
    edge = (np.asarray(image)[20, 10:60] == (255, 0, 0)).all(-1)
    assert 0.3 < edge.mean() < 0.7


@pytest.mark.parametrize(
    "box", [(0, 0, 30, 30), (270, 0, 300, 30), (0, 170, 20, 200), (290, 190, 300, 200), (0, 0, 300, 200)]
)
def test_labels_stay_inside_and_can_be_read(box):
    image = blank(300, 200)
    draw_detections(image, np.array([box], float), np.array([3]), np.array([0.876]), CLASSES)
    pixels = np.asarray(image)
    ground = (pixels == class_colours(3)[2]).all(-1)
    text = pixels.mean(-1) < 60  # black on green, smoothed
    rows, columns = np.nonzero(text)
    assert len(rows) > 40
    around = ground[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert around.mean() > 0.3
    assert rows.max() - rows.min() < 20


def test_labels_of_neighbours_keep_apart():
    first, second = np.array([[50.0, 80, 150, 180]]), np.array([[50.0, 80, 150, 180], [52, 81, 150, 180]])
    colours = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    alone, both = blank(300, 250), blank(300, 250)
    draw_boxes(alone, first, ["cat 0.9"], colours[:1])
    draw_boxes(both, second, ["cat 0.9", "dog 0.8"], colours)
    label = np.asarray(alone)[62:79, 50:110]
    np.testing.assert_array_equal(np.asarray(both)[62:79, 50:110], label)
    assert (np.asarray(both) == (0, 0, 255)).all(-1).sum() > 400


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (12, 9)])
def test_pictures_without_room_survive(size):
    image = blank(*size)
    width, height = size
    boxes = np.array([[0, 0, width, height], [-5, -5, 0, 0], [width, height, width + 9, height + 9], [np.nan] * 4])
    draw_detections(image, boxes, np.array([1, 2, 3, 1]), np.array([0.9, 0.8, 0.7, 0.6]), CLASSES)
    assert image.size == size


def test_nothing_to_draw_changes_nothing():
    image = blank(20, 20)
    draw_detections(image, np.empty((0, 4)), np.empty(0, int), np.empty(0), CLASSES)
    assert image.getcolors() == [(400, (128, 128, 128))]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_pictures_are_read_upright(orientation, tmp_path: Path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(photograph(60, 44), "JPEG", quality=95, exif=oriented(orientation)))
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    expected = np.rot90(np.asarray(photograph(60, 44)), turns).astype(int)
    found = np.asarray(read_picture(path)).astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 4


@pytest.mark.parametrize("kind", ["L", "CMYK", "P"])
def test_pictures_are_read_as_rgb(kind, tmp_path: Path):
    path = tmp_path / f"a.{'jpg' if kind == 'CMYK' else 'png'}"
    photograph().convert(kind).save(path)
    assert read_picture(path).mode == "RGB"


def test_unreadable_pictures_are_named(tmp_path: Path):
    (tmp_path / "no.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"no\.jpg cannot be decoded"):
        read_picture(tmp_path / "no.jpg")
