"""The kit's sides of own_interactions.py: its recipes for one's own data as it fits them, and its baselines.

A recipe learns as `kit train` does, without the report, but no longer than the time allows: a few steps and the first
evaluation tell how long an epoch takes, and where there are too many, it starts anew with as many as fit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.peers.careful import Clock, choose
from benchmarks.peers.peer_process import TOP_ITEMS_FILE, Job, PeerHistories, serve_learning
from benchmarks.peers.recommendation_sides import CPU
from challenges.recommendation.histories import baselines, check
from challenges.recommendation.histories.data import HistoryData
from challenges.recommendation.histories.fits import LOOKS
from challenges.recommendation.histories.histories import Histories, HistorySplit
from challenges.recommendation.histories.leaning import Leaning, choose_leaning
from challenges.recommendation.histories.ranking_task import RankingTask
from challenges.recommendation.histories.recipes import HistoryConfig, RecommendationRecipe
from challenges.registry import MODELS
from common.errors import KitError
from common.machine.environment import kit_version
from common.machine.precision import select_precision
from common.run import fitting
from common.run.run_directory import Entry, RunDirectory
from common.training.observers import Observer
from common.training.task import Task
from common.training.trainer import Outcome, Trainer

COMMON = HistoryConfig(protocol="leave-one-out", minimum_per_user=3, tuning_from=1)
"""The split of all sides."""
BASELINES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "popularity": ({},),
    "item_knn": [{"neighbours": n, "shrinkage": s} for n in (100, 20, 50, 200) for s in (10.0, 0.0, 50.0)],
    "sequential_rules": [{"keep": value} for value in (0.8, 0.9, 0.6)],
    "ease": [{"l2": value} for value in (500.0, 250.0, 1000.0, 125.0, 2000.0, 60.0)],
}
"""Settings to choose from, the kit's own first."""
FIRST_STEPS = 30  # after which it is first told how long a training takes
PLANNED = 0.92  # share of the time that a training is made for
SETTLING = (
    0.9  # of the time that choosing how to lean on neighbours takes: to choose how far, and to solve for all data
)
RANKING = 1.5  # time of an evaluation over that of its scores
SCORES = 2**22  # users x items ranked at a time


class TooLongError(Exception):
    """epochs: as many as the time allows."""

    def __init__(self, epochs: float) -> None:
        self.epochs = epochs


class Planner(Observer):
    """Stops a training that would not end in time, after a few steps or after its first evaluation.

    What is told before the first step, such as checking and drawing lists, is counted once for each attempt.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self._seconds, self._created = clock, seconds, clock.used
        self._began, self._looked, self._planned = clock.used, False, False

    def follow(self, trainer: Trainer, task: RankingTask[Any], data: HistoryData) -> None:
        """Tell the time of an evaluation from a batch of it, the second one that is scored."""
        self._cadence = trainer.cadence
        batch = next(iter(data.validation_batches()))
        with torch.no_grad():
            task.eval().scores(batch)
            before = self._clock.used
            task.scores(batch)
        task.train()
        each = (self._clock.used - before) / len(batch["index"])
        self._evaluation = RANKING * each * data.num_validation

    def on_entry(self, entry: Entry) -> None:
        self._looked = self._looked or entry["kind"] == "validation"

    def on_step(self, step: int) -> None:
        if step == 1:
            self._began = self._clock.used
        if step == 1 or (step != FIRST_STEPS and (self._planned or not self._looked)):
            return
        self._planned = self._looked
        cadence, used = self._cadence, self._clock.used
        each, left = (used - self._began) / (step - 1), cadence.total - step
        looks = max(1, round(left / cadence.evaluate_every))
        if used + each * left + looks * self._evaluation > self._seconds:
            room = PLANNED * self._seconds - used - (self._began - self._created) - self._evaluation
            epoch = each * cadence.per_epoch
            epochs = max(room / (epoch + self._evaluation), (room - LOOKS * self._evaluation) / epoch)
            raise TooLongError(max(epochs, 1 / cadence.per_epoch))


def learn(job: Job) -> dict[str, Any]:
    """A recipe's or a baseline's best within the job's time; sizes: data, the path of the interactions."""
    torch.set_num_threads(job.threads)
    version = kit_version()["version"]
    if job.model in BASELINES:
        return choose(_scored(getattr(baselines, job.model)), BASELINES[job.model], job, version)
    clock = Clock(job.seconds)
    recipe, epochs, attempts, learnt = own_recipe(job.model, job.seed), None, 0, None
    leaning, settling = _leaning(job, recipe, clock)
    while learnt is None:
        attempts += 1
        try:
            until = job.seconds - settling
            learnt = _trained(job, recipe, epochs, Planner(clock, until), Path(job.folder) / f"run-{attempts}")
        except TooLongError as error:
            epochs = error.epochs
    outcome, data = learnt
    task = outcome.task.eval()
    assert isinstance(task, RankingTask)
    task.leaning = leaning
    Console(stderr=True).print(task.settle(data))
    used = clock.used
    np.save(Path(job.folder) / TOP_ITEMS_FILE, _lists(job, task, data))
    told = {"epochs": outcome.epochs, "steps": outcome.steps, "attempts": attempts}
    return {"version": version, "seconds": used, "before": 0.0, **told}


def _leaning(job: Job, recipe: RecommendationRecipe, clock: Clock) -> tuple[Leaning, float]:
    """What `settle` would choose after the training, chosen before it, and the seconds that the rest will take."""
    folder = Path(job.folder) / "leaning"
    found = check.check(Path(job.sizes["data"]), folder, recipe.history).split
    before = clock.used
    leaning = choose_leaning(found, CPU)
    return leaning, SETTLING * (clock.used - before)


def own_recipe(model: str, seed: int) -> RecommendationRecipe:
    """The recipe that `kit challenge MODEL --data` takes, judged by the last item of every user."""
    recipe = MODELS[model].recipes()["own"]
    assert isinstance(recipe, RecommendationRecipe)
    history = recipe.history if recipe.history.protocol == COMMON.protocol else COMMON
    history = replace(history, minimum_per_user=COMMON.minimum_per_user)
    return replace(recipe, history=history, training=replace(recipe.training, seed=seed))


def _trained(
    job: Job, recipe: RecommendationRecipe, epochs: float | None, planner: Planner, folder: Path
) -> tuple[Outcome, HistoryData]:
    """Check, fit and train as the workflow does. epochs: what the user would ask for."""
    challenge = MODELS[job.model].load()
    console = Console(stderr=True)
    if epochs is not None:
        recipe = replace(recipe, training=replace(recipe.training, epochs=epochs))
    challenge.check(Path(job.sizes["data"]), recipe, folder / "data", console)
    chosen = () if epochs is None else ("training.epochs",)
    recipe, told = fitting.apply(recipe, challenge.fits(recipe, folder / "data"), chosen)
    for line in told:
        console.print(line)
    torch.manual_seed(recipe.training.seed)
    run = RunDirectory(folder)
    run.create(recipe, {"model": job.model})
    data = challenge.open_data(recipe, folder / "data", CPU)
    task = challenge.build_task(recipe, data)
    trainer = Trainer(
        task, data, recipe, run, device=CPU,
        precision=select_precision(recipe.training.precision, CPU), observers=(planner,),
    )  # fmt: skip
    assert isinstance(task, RankingTask)
    planner.follow(trainer, task, data)
    return trainer.fit(), data


def _lists(job: Job, task: Task, data: HistoryData) -> np.ndarray:
    """The trained task's best items, in the order of the judged users. Raises KitError where they are others'."""
    histories = PeerHistories.read(Path(job.folder))
    if not np.array_equal(histories.targets, data.split.targets.items):
        raise KitError(f"{job.model}/own judges other users or items than the others do.")
    with torch.no_grad():
        items = task.evaluate(data.validation_batches()).predictions["top_items"]
    assert items.shape[1] == job.top_k
    return items


def _scored(baseline: Callable[..., baselines.Scorer]) -> Any:
    """A baseline as `careful.choose` fits it."""

    def fit(settings: Mapping[str, Any], histories: PeerHistories) -> Callable[[int], np.ndarray]:
        split = _split(histories)
        scorer, seen = baseline(split, CPU, **settings), split.seen

        def rank(count: int) -> np.ndarray:
            parts = []
            for rows in np.array_split(np.arange(len(seen)), 1 + len(seen) * split.num_items // SCORES):
                scores = scorer(torch.as_tensor(rows)).clone()
                told = seen.select(rows)
                scores[told.users(), told.items] = -torch.inf
                best, items = scores.topk(min(count, split.num_items))
                parts.append(torch.where(best == -torch.inf, -1, items).numpy())
            return np.concatenate(parts)

        return rank

    return fit


def _split(histories: PeerHistories) -> HistorySplit:
    """What the baselines need of a split."""
    train = Histories(histories.offsets, histories.items)
    names = np.arange(histories.num_items).astype(str)
    judged = histories.judged
    return HistorySplit(
        protocol="leave-one-out", num_items=histories.num_items, item_ids=names, titles=names,
        user_ids=np.arange(len(train)).astype(str), train=train, users=judged, seen=train.select(judged),
        targets=Histories(np.arange(len(judged) + 1), histories.targets), negatives=None, facts={}, fingerprint="",
    )  # fmt: skip


if __name__ == "__main__":
    serve_learning(learn)
