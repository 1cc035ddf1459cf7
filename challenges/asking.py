"""What `kit client` and `kit load` ask a served model, in the way of the challenge whose kind of model it is."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from challenges.registry import MODELS, dialogues
from common.errors import KitError
from common.question import Question, require_answerable
from common.serving.client import Client
from common.serving.dialogue import Dialogue
from common.serving.problems import UnknownModelError
from common.slug import model_slug

if TYPE_CHECKING:
    from common.export.runner import Arrays

BATCH = 8  # samples of a request
RUNS = Path("runs")  # where two runs of one model are served, each has the name of its folder


def ask(connection: Client, model: str, question: Question, console: Console) -> None:
    """Ask the model and print its answer.

    Raises KitError where it is asked with what it does not take, UnknownModelError with the models that there are.
    """
    dialogue = _dialogue(connection, model)
    require_answerable(model, question, dialogue.takes, "client")
    classes = dialogue.classes(question)
    answers = [connection.infer(model, inputs, classes=classes) for inputs in dialogue.requests(question, BATCH)]
    dialogue.show(model, question, answers, console)


def batches(connection: Client, model: str, question: Question) -> "list[Arrays]":
    """What to send again and again, one sample each. Raises as `ask` does."""
    dialogue = _dialogue(connection, model)
    require_answerable(model, question, dialogue.takes, "load")
    return [*dialogue.requests(question, 1)]


def _dialogue(connection: Client, model: str) -> Dialogue:
    """How the model is asked, by the names of its tensors."""
    try:
        metadata = connection.metadata(model)
    except UnknownModelError as error:
        runs = sorted(model_slug(path.name) for path in RUNS.iterdir() if path.is_dir()) if RUNS.is_dir() else []
        served = connection.served(filter(None, [*MODELS, *runs]))
        told = f"It serves {', '.join(served)}." if served else "It serves none of this kit's models either."
        raise UnknownModelError(error.given, told, "Choose one: --model NAME") from None
    inputs, outputs = ([tensor["name"] for tensor in metadata[side]] for side in ("inputs", "outputs"))
    for dialogue in dialogues():
        if dialogue.fits(set(inputs), set(outputs)):
            return dialogue.with_inputs(set(inputs))
    raise KitError(
        f"{model} takes {', '.join(inputs)} and gives {', '.join(outputs)}.",
        "kit client and kit load ask what kit serve offers.",
        "Name such a model: --model NAME",
    )
