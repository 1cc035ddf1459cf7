"""What a command of the kit trains, by the kit's own parser."""

import shlex
from dataclasses import dataclass

from challenges.parser import build_parser
from challenges.registry import find_model, find_recipe

_MODULE = ("-m", "--", "challenges")
"""What torchrun starts."""


@dataclass(frozen=True)
class Commanded:
    """A training as it was asked for.

    data: a path or a data set's name; empty for generated data. overrides: flags of the recipe and their values.
    run:  the run's folder; empty where it is not named.
    """

    model: str
    recipe: str
    data: str
    overrides: tuple[str, ...]
    run: str = ""


def words_of(line: str) -> list[str]:
    """The words after `kit`, also where torchrun starts it; raises ValueError for any other program."""
    words = shlex.split(line)
    if words[:1] == ["kit"]:
        return words[1:]
    for start in range(len(words) - len(_MODULE)):
        if words[0] == "torchrun" and tuple(words[start : start + len(_MODULE)]) == _MODULE:
            return words[start + len(_MODULE) :]
    raise ValueError(f"{line!r} is no command of the kit.")


def commanded(line: str) -> Commanded:
    """Raises ValueError where the command trains nothing, RecipeError where there is no such recipe."""
    options, overrides = build_parser().parse_known_args(words_of(line))
    if options.verb == "challenge" and len(options.model) == 1:
        (model,) = options.model
        chosen = find_model(model).recipe_for(weights=bool(options.weights), data=bool(options.data))
        recipe = options.recipe or chosen
    elif options.verb == "train":
        model, _, recipe = options.recipe.partition("/")
    else:
        raise ValueError(f"{line!r} trains no one model.")
    find_recipe(f"{model}/{recipe}")
    return Commanded(model, recipe, options.data or "", tuple(overrides), options.run or "")
