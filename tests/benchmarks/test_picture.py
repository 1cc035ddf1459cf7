"""The picture of a report: small, and with the line that its run ended with."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.picture import MOST_BYTES, PICTURE, find_browser, keep, main, photograph, told_by
from common.errors import KitError

PAGE = Image.new("RGB", (400, 300), "white")
LINE = "RESULT resnet50/demo top1=0.9000 verdict=reached"


def test_this_checkouts_picture_is_small_and_says_what_it_shows():
    assert PICTURE.stat().st_size <= MOST_BYTES
    assert told_by(PICTURE).startswith("RESULT ")


def test_what_is_kept_beside_a_picture_is_told_again(tmp_path):
    keep(PAGE, LINE, tmp_path / "report.png")
    assert told_by(tmp_path / "report.png") == LINE
    with Image.open(tmp_path / "report.png") as picture:
        assert np.array_equal(np.asarray(picture.convert("RGB")), np.asarray(PAGE))


def test_a_large_picture_is_refused_and_the_old_one_stays(tmp_path):
    keep(PAGE, LINE, tmp_path / "report.png")
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    with pytest.raises(KitError, match="bytes"):
        keep(Image.fromarray(noise), "other", tmp_path / "report.png")
    assert told_by(tmp_path / "report.png") == LINE


def test_a_picture_without_its_line_is_refused(tmp_path):
    PAGE.save(tmp_path / "plain.png")
    with pytest.raises(KitError, match="no picture of a run"):
        told_by(tmp_path / "plain.png")


def test_a_missing_browser_and_one_that_fails_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KitError, match="apt-get install chromium"):
        find_browser()
    browser = tmp_path / "chromium"
    browser.write_text("#!/bin/sh\necho no display >&2\nexit 1\n")
    browser.chmod(0o755)
    with pytest.raises(KitError, match=r"took no picture(.|\n)*no display"):
        photograph(tmp_path / "index.html", find_browser())


def test_a_run_without_a_result_is_refused(tmp_path):
    with pytest.raises(KitError):
        main(tmp_path)
