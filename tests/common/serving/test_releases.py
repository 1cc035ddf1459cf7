"""What a server can be given: engines, plans and graphs of the versions that it reads."""

from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import ServingError
from common.export.signature import BatchRange, Signature, TensorSpec
from common.serving import images
from common.serving.images import add_preprocessing
from common.serving.releases import LOCAL, NEWER_GRAPHS, Release, container_release
from common.serving.repository import ModelRepository

SERVER = Release(name="27.01", version="3.0", engines=("onnxruntime",), dali="2.2")
IMAGES = Signature((), (TensorSpec("images", "float32", (3, 8, 8)),), BatchRange(1, 2, 4))


@pytest.mark.parametrize("dali", ["1.53.0", "2.2.0", "2.2.1", "2.3.0", "2.4.0"])
def test_a_graph_that_the_server_reads_is_written(dali: str) -> None:
    SERVER.require_graphs_of(dali)


@pytest.mark.parametrize("dali", ["2.5.0", "2.10.0", "3.0.0"])
def test_a_graph_of_a_newer_dali_is_refused_before_it_is_served(
    dali: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "package_versions", lambda: {"dali": dali})
    signature = replace(IMAGES, inputs=(images.ENCODED,))
    repository = ModelRepository(tmp_path / "served", release=SERVER)
    with pytest.raises(ServingError, match=rf"DALI {dali}, and Triton 27\.01 reads graphs with 2\.2"):
        add_preprocessing(repository, "cats_preprocessing", b"graph", signature)
    assert repository.models() == []
    add_preprocessing(replace(repository, release=LOCAL), "cats_preprocessing", b"graph", signature)
    assert repository.models() == ["cats_preprocessing"]


def test_the_kits_own_dali_is_read_by_the_pinned_server() -> None:
    release = container_release()
    assert release.dali in NEWER_GRAPHS
    release.require_graphs_of(images.package_versions()["dali"])
