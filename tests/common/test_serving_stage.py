"""What `kit serve` tells a user to type, by what a model takes."""

from pathlib import Path

import pytest

from common.export.signature import BatchRange, Signature, TensorSpec
from common.serving.config import model_config, write_config
from common.serving.repository import ModelRepository
from common.serving_stage import example_command


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (("encoded",), "kit client IMAGE --model shop --url host:1"),
        (("history",), "kit client --model shop --history ITEM ... --url host:1"),
        (("user", "seen"), "kit client --model shop --user USER --url host:1"),
    ],
)
def test_the_example_fits_the_model(tmp_path: Path, inputs: tuple[str, ...], expected: str) -> None:
    tensors = tuple(TensorSpec(name, "int64", (1,)) for name in inputs)
    write_config(
        model_config("shop", "python", Signature(tensors, tensors, BatchRange(1, 1, 1)), "cpu"),
        tmp_path / "shop" / "config.pbtxt",
    )
    assert example_command(ModelRepository(tmp_path), "shop", "host:1") == expected
