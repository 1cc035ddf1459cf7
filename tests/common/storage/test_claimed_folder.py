"""A folder of the user's choice: only what the kit wrote is written over."""

import pytest

from common.errors import DataError, KitError
from common.storage.claimed_folder import claimed


def test_what_the_kit_wrote_is_written_again_and_nothing_else(tmp_path):
    folder = tmp_path / "out"
    for text in ("first", "second"):
        with claimed(folder, "predict"):
            (folder / "a").mkdir(exist_ok=True)
            (folder / "a" / "street.jpg").write_text(text)
    (folder / "a" / "mine.jpg").write_text("mine")
    with pytest.raises(DataError, match=r"did not write.*, such as a/mine\.jpg"), claimed(folder, "predict"):
        pass
    assert (folder / "a" / "mine.jpg").read_text() == "mine"
    assert (folder / "a" / "street.jpg").read_text() == "second"


def test_a_folder_of_the_users_is_refused(tmp_path):
    (tmp_path / "detections.json").write_text("{}")
    with pytest.raises(DataError, match="Name another folder"), claimed(tmp_path, "predict"):
        pass


def test_a_copy_that_the_user_changed_is_the_users(tmp_path):
    folder = tmp_path / "out"
    with claimed(folder, "predict"):
        (folder / "street.jpg").write_text("kit's")
    (folder / "street.jpg").write_text("user's")
    with pytest.raises(DataError, match=r"changed since, such as street\.jpg"), claimed(folder, "predict"):
        pass


def test_a_folder_has_one_writer(tmp_path):
    folder = tmp_path / "out"
    first = claimed(folder, "predict")
    with first, pytest.raises(KitError, match="is held by `kit predict`"), claimed(folder, "predict"):
        pass
