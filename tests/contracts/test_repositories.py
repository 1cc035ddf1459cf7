"""Every model's repository holds together: what a step takes is there before it, in the shape that it takes."""

from typing import Any

import pytest

from challenges.registry import dialogues
from common.serving.repository import ModelRepository


@pytest.fixture(scope="module")
def repository(line, tmp_path_factory):
    repository = ModelRepository(tmp_path_factory.mktemp("repository"))
    line.add_to(repository)
    return repository


def kinds(tensors: Any) -> dict[str, tuple[int, list[int]]]:
    """Type and sizes of a configuration's tensors."""
    return {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in tensors}


def test_one_model_is_served_under_the_models_name(line, repository):
    assert repository.served() == [line.challenge.model]


def test_every_model_has_the_file_that_it_runs(repository):
    for name in repository.models():
        config = repository.config(name)
        if config.platform != "ensemble":
            file = repository.path / name / "1" / (config.default_model_filename or "model.py")
            assert file.stat().st_size


def test_an_ensembles_tensors_are_its_parts(repository):
    for name in repository.models():
        config = repository.config(name)
        if config.platform != "ensemble":
            continue
        known, taken = kinds(config.input), set()
        for step in config.ensemble_scheduling.step:
            part = repository.config(step.model_name)
            takes, gives = kinds(part.input), kinds(part.output)
            assert step.input_map.keys() == takes.keys()
            assert step.output_map.keys() <= gives.keys()
            assert {inner: known[outer] for inner, outer in step.input_map.items()} == takes
            taken.update(step.input_map.values())
            known |= {outer: gives[inner] for inner, outer in step.output_map.items()}
        assert kinds(config.input).keys() <= taken
        assert kinds(config.output) == {tensor.name: known[tensor.name] for tensor in config.output}


def test_kit_client_knows_how_to_ask_it(line, repository):
    config = repository.config(line.challenge.model)
    inputs, outputs = ({tensor.name for tensor in tensors} for tensors in (config.input, config.output))
    (found,) = [dialogue for dialogue in dialogues() if dialogue.fits(inputs, outputs)]
    assert found.takes == line.challenge.served.dialogue.takes
