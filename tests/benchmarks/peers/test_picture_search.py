"""A search among a few thousand vectors, measured as a million are."""

import json

import numpy as np
import pytest

from benchmarks.peers import picture_search
from benchmarks.peers.picture_search import Settings, compare, generated
from benchmarks.record import SCHEMA_FILE, as_json
from challenges.classification.search import index

pytest.importorskip("faiss", reason="no search without the extra similar: pip install '.[similar]'")


def test_generated_vectors_have_length_one_and_neighbours(tmp_path):
    vectors = generated(tmp_path, 500, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.load(tmp_path / "made.npy").shape == (500, 32)


def test_the_record_says_what_was_found_held_and_built(tmp_path, monkeypatch):
    import jsonschema

    monkeypatch.setattr(index, "LARGE", 1_000)
    monkeypatch.setattr(picture_search, "SUBJECTS", 100)
    settings = Settings(vectors=3_000, width=32, rounds=3, block_seconds=0.05, warmup_seconds=0.05)
    record = compare(settings, tmp_path, ("python",))
    jsonschema.validate(as_json(record), json.loads(SCHEMA_FILE.read_text()))
    assert record.workload.dataset == "3,000 generated vectors"
    assert record.details["recall"] >= picture_search.RECALL
    assert record.details["index_bytes"] > 3_000 * 32 * 5
    assert {"build_seconds", "build_held_bytes", "search_held_bytes"} <= record.details.keys()
