"""What is written as Pascal VOC is read back as the same boxes."""

import numpy as np

from challenges.detection.annotations.voc import _objects, parse
from challenges.detection.annotations.voc_files import write_voc


def test_reading_undoes_writing(tmp_path):
    boxes = np.array([[0, 0, 10, 20], [3.4, 4.6, 99.9, 50.2], [99.7, 49.9, 100, 50]])
    names = ["cat & <dog>", "b", "c"]
    write_voc(tmp_path / "Annotations" / "a.xml", "a.jpg", (100, 50), names, boxes)
    annotation = parse(tmp_path / "Annotations" / "a.xml")
    read = list(_objects(annotation, "a.jpg", []))
    assert annotation.findtext("size/width") == "100"
    assert [name for _, name, _, _ in read] == names
    np.testing.assert_array_equal([box for _, _, box, _ in read], [[0, 0, 10, 20], [3, 5, 100, 50], [99, 49, 100, 50]])


def test_an_image_without_objects_says_so(tmp_path):
    write_voc(tmp_path / "a.xml", "a.jpg", (4, 4), [], np.empty((0, 4)))
    assert list(_objects(parse(tmp_path / "a.xml"), "a.jpg", [])) == []
