"""Every model's repository holds together: what a step takes is there before it, in the shape that it takes."""

import shlex
import shutil

import pytest
from tritonclient.grpc import model_config_pb2 as pb

from challenges.commands.asked import question_of
from challenges.parser import build_parser
from challenges.registry import dialogues
from common.question import require_answerable
from common.serving.config import write_config
from common.serving.repository import ModelRepository
from common.stages.serving_stage import example_command
from tests.contracts.validator import problems_of


@pytest.fixture(scope="module")
def repository(line, tmp_path_factory):
    repository = ModelRepository(tmp_path_factory.mktemp("repository"))
    line.add_to(repository)
    return repository


def test_one_model_is_served_under_the_models_name(line, repository):
    assert repository.served() == [line.challenge.model]


def test_it_holds_together(line, repository):
    assert problems_of(repository, line.trained.task.signature()) == []


SPOILT = {
    "a type": lambda config: setattr(config.input[0], "data_type", pb.TYPE_FP64),
    "a size": lambda config: config.output[0].dims.append(7),
    "a name": lambda config: setattr(config.output[0], "name", "other"),
    "a batch": lambda config: setattr(config, "max_batch_size", 1),
    "a file": lambda config: setattr(config, "default_model_filename", "absent.onnx"),
    "a device": lambda config: setattr(config, "platform", "tensorrt_plan"),
    "a warm-up": lambda config: setattr(config.model_warmup[0], "batch_size", 5000),
}


@pytest.mark.parametrize("what", SPOILT)
def test_what_does_not_fit_is_found(line_of, tmp_path, what):
    line, repository = line_of("vae_cf"), ModelRepository(tmp_path)
    line.add_to(repository)
    config = repository.config("vae_cf_model")
    SPOILT[what](config)
    write_config(config, tmp_path / config.name / "config.pbtxt")
    assert problems_of(repository, line.trained.task.signature())
    shutil.rmtree(tmp_path / "vae_cf_asked")
    assert any("vae_cf_asked, which is not there" in problem for problem in problems_of(repository))


def test_what_kit_serve_tells_to_type_asks_with_what_there_is(line):
    told = example_command(line.challenge, line.run, "shop", "host:1")
    question = question_of(build_parser().parse_args(shlex.split(told)[1:]))
    require_answerable(line.challenge.model, question, line.challenge.served.dialogue.takes, "client")
    assert all(path.is_file() for path in question.inputs if path.suffix != ".csv")


def test_kit_client_knows_how_to_ask_it(line, repository):
    config = repository.config(line.challenge.model)
    inputs, outputs = ({tensor.name for tensor in tensors} for tensors in (config.input, config.output))
    (found,) = [dialogue for dialogue in dialogues() if dialogue.fits(inputs, outputs)]
    assert found.takes == line.challenge.served.dialogue.takes
