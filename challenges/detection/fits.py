"""What a recipe for scenes of one's own takes from them: rules from their number to fields, with reasons."""

from challenges.detection.reach import POOR_RECALL, View, object_sizes
from challenges.detection.recipes import LIGHT, SIZES, DetectionRecipe
from challenges.detection.scenes import Scenes
from common.run.fitting import Fit
from common.training.cadence import Cadence

PASSES, EPOCHS = 7_000, (12, 100)  # images seen in a run, and the epochs between which that lies
FEW, SMALL_BATCH = 1_000, 4  # training images below which batches are small: a short run needs many steps
EVALUATIONS = 4
WHOLE_EPOCHS = 6  # at least, where a recipe ends on whole images: windows vary what was seen before


def fits(recipe: DetectionRecipe, scenes: Scenes) -> list[Fit]:
    """The values for this data."""
    count = len(scenes.subset("train"))
    since = f"since there are {count:,} training images"
    fewest, most = EPOCHS
    epochs = float(min(most, max(fewest, round(PASSES / count))))
    batch = SMALL_BATCH if count < FEW else recipe.training.batch_size
    return [
        Fit("training.batch_size", batch, since),
        Fit("training.epochs", epochs, f"{since}: {round(epochs * count / batch):,} steps of {batch}"),
        Fit("training.evaluate_every", epochs / EVALUATIONS, "a quarter of the run"),
    ]


def whole_from(recipe: DetectionRecipe, num_train: int) -> int | None:
    """The step from which on training sees whole images; None: none, as where the small objects of tiles are learnt.

    That is the recipe's share of the run, or WHOLE_EPOCHS where these are more: in a run so short no image comes often
    enough for windows to be worth what they cost (205 images of BCCD at 128 pixels: AP 0.244 with and 0.325 without
    them in 2.3 epochs, 0.340 and 0.393 in 5.9).
    """
    if recipe.data.whole_share == 0 or recipe.data.tile is not None:
        return None
    cadence = Cadence.of(recipe.training, num_train)
    whole = max(recipe.data.whole_share * cadence.total, WHOLE_EPOCHS * cadence.per_epoch)
    return max(0, round(cadence.total - whole))


def lighter(recipe: DetectionRecipe, scenes: Scenes) -> list[tuple[tuple[str, ...], float]]:
    """The recipe's own way, and below it every smaller input whose default boxes still reach the objects of all
    classes.
    """
    ways, learnt = [recipe.lighter()], scenes.subset("train")
    for side in sorted(SIZES, reverse=True):
        if side >= min(LIGHT, recipe.preprocessing.crop):
            continue
        classes = object_sizes(learnt, View(side))["classes"].values()
        if min((row["recall"] for row in classes), default=0.0) < POOR_RECALL:
            break
        ways.append(recipe.seen_at(side))
    return [way for way in ways if way is not None]
