"""Slow, busy, stuck, dead: what a model's probes say of it."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from common.errors import ServingError
from common.export.signature import BatchRange, Signature, TensorSpec
from common.serving import health as health_module
from common.serving.config import model_config, write_config
from common.serving.health import Health
from common.serving.problems import InvalidRequestError, OverloadedError, RequestTimeoutError, ServerFaultError

VALUE = Signature(
    (TensorSpec("value", "float32", (1,)),), (TensorSpec("result", "float32", (1,)),), BatchRange(1, 1, 1)
)


class FakeServer:
    """A server of one ensemble with two parts; `answers` are what each model raises, `counts` its executions."""

    def __init__(self, folder: Path, **answers: ServingError) -> None:
        self.repository, self.process = folder, None
        self.answers, self.counts = answers, itertools.repeat(0)
        for part in ("shop_names", "shop_model"):
            write_config(model_config(part, "python", VALUE, "cpu"), folder / part / "config.pbtxt")
        ensemble = model_config("shop", "ensemble", VALUE, "cpu")
        for part in ("shop_names", "shop_model"):
            ensemble.ensemble_scheduling.step.add(model_name=part, model_version=-1)
        write_config(ensemble, folder / "shop" / "config.pbtxt")

    def client(self, *, timeout: float = 30.0, retries: int = 3) -> "FakeServer":
        return self

    def __enter__(self) -> "FakeServer":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def example_inputs(self, model: str) -> dict[str, np.ndarray]:
        return {}

    def infer(self, model: str, inputs: dict[str, np.ndarray]) -> None:
        if model in self.answers:
            raise self.answers[model]

    def statistics(self, model: str) -> dict[str, int]:
        return {"execution_count": next(self.counts)}


LATE, BROKEN = RequestTimeoutError("no answer"), ServerFaultError("broken")


@pytest.mark.parametrize("answer", [OverloadedError("full queue"), InvalidRequestError("not like this")])
def test_a_refusal_is_an_answer(tmp_path: Path, answer: ServingError) -> None:
    assert Health(FakeServer(tmp_path, shop=answer)).sick() == {}


def test_the_sick_part_of_an_ensemble_is_found(tmp_path: Path) -> None:
    assert Health(FakeServer(tmp_path, shop=BROKEN, shop_model=BROKEN)).sick() == {"shop_model": "broken"}
    assert Health(FakeServer(tmp_path, shop=BROKEN)).sick() == {"shop": "broken"}  # all its parts are well
    assert Health(FakeServer(tmp_path, shop=LATE)).sick() == {}


def test_who_answers_others_meanwhile_is_busy(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, shop=LATE, shop_model=LATE)
    server.counts = itertools.count()
    assert Health(server).sick() == {}


def test_who_computes_is_given_time_and_who_does_not_is_sick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    health = Health(FakeServer(tmp_path, shop=LATE, shop_model=LATE))
    assert health.sick() == {"shop_model": "no answer"}  # neither answers nor computes
    health.stuck.clear()
    clock, computed = [0.0], itertools.count(step=4)
    monkeypatch.setattr(health_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(health, "_processor_seconds", lambda model: next(computed))
    for clock[0] in (0.0, 30.0, 59.0):
        assert health.sick() == {}
    clock[0] = 61.0
    assert health.sick() == {"shop_model": "no answer"}


def test_patience_grows_with_what_answers_usually_take(tmp_path: Path) -> None:
    health = Health(FakeServer(tmp_path))
    assert health.patience("shop") == 5.0
    health.usual["shop"] = 3.0
    assert health.patience("shop") == 30.0
