"""The models there are; a challenge's heavy modules are imported only when one of its verbs runs."""

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.errors import RecipeError
from common.run.recipe import Recipe

if TYPE_CHECKING:
    from common.challenge import Challenge
    from common.serving.dialogue import Dialogue


@dataclass(frozen=True)
class Entry:
    """One model: its challenge's number, its package, and the recipes that data or weights of one's own call for.

    takes_files: whether the data may be a single file.
    wing:        the package of what it shares with models of its kind, such as how it is served; its own by default.
    """

    challenge: int
    package: str
    summary: str
    recipe_for_data: str
    recipe_for_weights: str
    takes_files: bool = False
    wing: str = ""

    def recipe_for(self, *, weights: bool, data: bool) -> str:
        """The recipe that is taken where none is named, by what was given."""
        return self.recipe_for_weights if weights else self.recipe_for_data if data else "demo"

    @property
    def folder(self) -> str:
        """Its challenge's, below challenges/: what a record calls the challenge."""
        return self.package.split(".")[1]

    def recipes(self) -> Mapping[str, Recipe]:
        recipes: Mapping[str, Recipe] = importlib.import_module(f"{self.package}.recipes").RECIPES
        return recipes

    def load(self) -> "Challenge[Any, Any, Any]":
        challenge: Challenge[Any, Any, Any] = importlib.import_module(f"{self.package}.challenge").CHALLENGE
        return challenge


def _recommender(name: str, summary: str, wing: str) -> Entry:
    return Entry(3, f"challenges.recommendation.{name}", summary, "own", "own", takes_files=True, wing=wing)


HISTORIES, CLICKS = "challenges.recommendation.histories", "challenges.recommendation.clicks"
MODELS: Mapping[str, Entry] = {
    "resnet50": Entry(1, "challenges.classification", "ResNet-50 v1.5 image classification", "photos", "finetune"),
    "ssd300": Entry(2, "challenges.detection", "object detection, SSD300 and SSD512", "small", "finetune"),
    "ncf": _recommender("ncf", "NeuMF, users and items by embedding", HISTORIES),
    "vae_cf": _recommender("vae_cf", "Mult-VAE, whole histories at once", HISTORIES),
    "bert4rec": _recommender("bert4rec", "BERT4Rec, ordered histories", HISTORIES),
    "dlrm": _recommender("dlrm", "DLRM, rows of a click log", CLICKS),
    "wide_and_deep": _recommender("wide_and_deep", "Wide & Deep, rows of a click log", CLICKS),
}


def dialogues() -> "Iterator[Dialogue]":
    """How served models are asked, of every kind; nothing heavy is imported."""
    for package in dict.fromkeys(entry.wing or entry.package for entry in MODELS.values()):
        yield from importlib.import_module(f"{package}.serving.asking").DIALOGUES


def find_model(name: str) -> Entry:
    if name not in MODELS:
        raise _unknown("model", name, MODELS)
    return MODELS[name]


def find_recipe(identifier: str) -> tuple[Entry, str, Recipe]:
    """The model, recipe name and recipe that `model/recipe` names.

    Raises RecipeError with the nearest spelling.
    """
    model, _, name = identifier.partition("/")
    entry = find_model(model)
    recipes = entry.recipes()
    if name not in recipes:
        raise _unknown("recipe", identifier, [f"{model}/{known}" for known in recipes])
    return entry, name, recipes[name]


def _unknown(kind: str, given: str, known: Iterable[str]) -> RecipeError:
    names = list(known)
    near = difflib.get_close_matches(given, names, n=1)
    return RecipeError(
        f"There is no {kind} {given!r}.",
        f"There are: {', '.join(names)}.",
        f"Did you mean {near[0]}?" if near else "See `kit list`.",
    )
