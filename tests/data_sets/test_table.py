"""Every entry of the table says what one must know before it is fetched."""

import re

import pytest

from challenges.data_sets.table import DATA_SETS
from challenges.registry import MODELS

RECIPES = {f"{model}/{name}" for model, entry in MODELS.items() for name in entry.recipes()}
CHECKSUM = re.compile(r"md5:[0-9a-f]{32}|sha1:[0-9a-f]{40}|sha256:[0-9a-f]{64}")


@pytest.mark.parametrize("name", DATA_SETS)
def test_an_entry_says_what_one_must_know(name):
    entry = DATA_SETS[name]
    assert re.fullmatch(r"[a-z0-9-]+", name)
    assert entry.parts
    assert bool(entry.published) == all(part.checksum for part in entry.parts)
    assert all(part.checksum is None or CHECKSUM.fullmatch(part.checksum) for part in entry.parts)
    assert all(part.urls and all(re.match(r"https?://", url) for url in part.urls) for part in entry.parts)
    assert len({part.file for part in entry.parts}) == len(entry.parts)
    copies = [part for part in entry.parts if part.on_aws]
    assert all(part.checksum and part.on_aws.endswith(f".amazonaws.com/{part.file}") for part in copies)
    assert min(entry.megabytes, entry.unpacked) > 0
    assert all((entry.what, entry.licence, entry.citation, entry.layout, entry.root))
    assert entry.root != "."  # the marker lies there
    assert entry.recipes
    assert set(entry.recipes) <= RECIPES
    assert entry.must_accept or "no commercial" not in entry.licence


def test_checksums_are_of_one_file_each():
    checksums = [part.checksum for entry in DATA_SETS.values() for part in entry.parts if part.checksum]
    assert len(set(checksums)) == len(checksums)
