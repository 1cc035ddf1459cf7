"""One real server with every model: each answers as its evaluation did, and `kit client` prints an answer."""

import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from challenges.__main__ import main
from challenges.registry import MODELS
from common.files import write_csv
from common.playground.films import Shelf
from common.playground.session import Engine
from common.serving.payload import DEFAULT_FOLDER, Payload
from common.serving.repository import ModelRepository
from common.serving.server import LocalServer
from tests.contracts.line import Line
from tests.contracts.spoken import texts_of
from tests.contracts.test_exports import ALIKE
from tests.detection.video_maker import make_video

PICTURES = (".png", ".jpg")
SENT = 4


class Overheard:
    """A client that remembers what it was first asked with."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.inputs: Mapping[str, np.ndarray] = {}

    def infer(self, model: str, inputs: Mapping[str, np.ndarray], **options: Any) -> dict[str, np.ndarray]:
        self.inputs = self.inputs or inputs
        return self._client.infer(model, inputs, **options)


def question(line: Line, inputs: Mapping[str, np.ndarray]) -> list[str]:
    """Arguments of `kit client` that ask as `inputs` did, or with the data's own file or one of its pictures."""
    way = line.challenge.served.dialogue.takes[0]
    if way in inputs:
        return [f"--{way}", *filter(None, inputs[way][0])]
    pictures = (path for path in sorted(line.root.rglob("*")) if path.suffix in PICTURES)
    found = line.root if line.root.is_file() else next(pictures, None)
    if found is None:
        found = line.folder / "asked.csv"
        write_csv(found, [*inputs], zip(*(column[:, 0] for column in inputs.values()), strict=True))
    return [str(found)]


@pytest.mark.serving
def test_one_server_answers_for_every_model(line_of, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    payload = Payload(Path(os.environ.get("CHALLENGE_KIT_TRITON", DEFAULT_FOLDER)))
    if not payload.is_installed():
        pytest.skip("no Triton server: python -m common.serving.payload")
    lines, repository = [line_of(model) for model in MODELS], ModelRepository(tmp_path / "repository")
    for line in lines:
        line.add_to(repository)
    with LocalServer(repository.path, payload, tmp_path / "server.log") as server:
        server.wait_ready()
        assert repository.served() == sorted(MODELS)
        for line in lines:
            model, client = line.challenge.model, Overheard(server.client())
            told = line.challenge.served.compare_served(client, model, line.run, SENT)
            assert told["same"] >= ALIKE * told["compared"] > 0, model
            asked = ["client", "--model", model, *question(line, client.inputs), "--url", server.url("http")]
            assert main(asked) == 0, asked
            assert any(line.startswith("│") for line in capsys.readouterr().out.splitlines()), model
            try_in_the_browser(line, Engine("Triton", url=server.url("http"), model=model), tmp_path / model)


def try_in_the_browser(line: Line, engine: Engine, folder: Path) -> None:
    """The page asks the server, with examples and with a video, and shows what the engine in process would."""
    with line.trained.reference() as runner:
        own = line.challenge.playground.open(line.trained, Engine("torch", runner))
        served = line.challenge.playground.open(line.trained, engine)
        settings = {field.name: field.value for field in own.controls}
        asked = own.example(0)
        pages = [texts_of(str(session.show(session.ask(asked), settings))) for session in (own, served)]
        assert len(pages[0] & pages[1]) >= ALIKE * len(pages[0]), engine.model
    if served.videos is not None:
        folder.mkdir()
        make_video(folder / "a.mp4")
        shelf = Shelf(folder)
        answer = served.videos.annotate(
            folder / "a.mp4", shelf.new(), settings | {"threshold": 0.0}, nullcontext(), lambda *_: None
        )
        assert len(answer.times) == 13
        assert len(answer.table), "an untrained detector finds something everywhere"
