"""What the recommenders of challenge 3 have in common: interactions in, ranked items out."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from rich.console import Console

from challenges.recommendation.histories import baselines, interactions
from challenges.recommendation.histories.comparison import RankingComparison
from challenges.recommendation.histories.data import HistoryData
from challenges.recommendation.histories.histories import Histories, HistorySplit
from challenges.recommendation.histories.ranking import nearest_metric
from challenges.recommendation.histories.recipes import RecommendationRecipe
from challenges.recommendation.histories.report import sections
from challenges.recommendation.histories.top_items import LOWEST
from common.challenge import Challenge, CheckedData, Question
from common.errors import CheckpointError
from common.files import cache_folder
from common.report.elements import Section
from common.run.result import Result
from common.run.run_directory import RunDirectory
from common.storage.weight_files import read_weights, save_weights, weights_metadata
from common.training.task import Task

if TYPE_CHECKING:
    from common.export.artefact import ArtefactSidecar
    from common.export.parity import Judged
    from common.export.runner import Arrays, Runner
    from common.serving.client import Client
    from common.serving.config import Engine, EngineOptions
    from common.serving.repository import ModelRepository

RecipeType = TypeVar("RecipeType", bound=RecommendationRecipe)
DEMO = "the demo interactions"
BATCH = 64  # judged users of one batch of exported inputs
EXAMPLES = 6  # users answered by Triton that the report shows
NAMED = 3  # items of an example that are named
SERVED_SAME = 0.8  # share of the evaluation's items that a served answer must have, whatever the precision


WHERE = {
    "popularity": "the most frequent items that a user lacks",
    "item k-NN": "challenges/recommendation/histories/baselines.py item_knn",
    "EASE": "challenges/recommendation/histories/baselines.py ease",
    "iALS": "challenges/recommendation/histories/baselines.py ials",
}
"""Where the baselines are to be had."""


class RecommendationChallenge(Challenge[RecipeType, HistoryData], Generic[RecipeType]):
    """NCF, VAE-CF or BERT4Rec: they differ in their tasks, in how batches are made, and in what is asked of them."""

    metric: str
    """The metric of a run whose recipe has no target; the baseline's too."""
    counts: Mapping[str, tuple[int, int, int]]
    """A target's protocol -> training users, items and judged users of its data."""
    predicts_from: tuple[str, ...] = ("history",)

    def comparison(self) -> RankingComparison:
        return RankingComparison()

    def demo_data(self, console: Console) -> Path:
        from challenges.recommendation.histories import demo

        return demo.generate(cache_folder() / "demo" / "interactions", console=console)

    def check(self, root: Path, recipe: RecipeType, output: Path, console: Console) -> CheckedData:
        report = interactions.check(root, output, recipe.history, console=console)
        report.print(console)
        split = report.split
        summary: dict[str, object] = {"protocol": split.protocol, "users": split.num_users, "items": split.num_items}
        return CheckedData(root, split.fingerprint, summary)

    @abstractmethod
    def inputs_of(self, split: HistorySplit, rows: np.ndarray) -> "Arrays":
        """What the exported model is asked with, for judged users at positions `rows` (batch,)."""

    @abstractmethod
    def asked(self, split: HistorySplit, question: Question) -> "Arrays":
        """The same for what the user of `kit predict` told.

        Raises DataError for an item or user that the data does not have.
        """

    def load_starting_weights(self, task: Task, recipe: RecipeType, console: Console) -> None:
        """Recommenders start from nothing: their tables belong to one catalogue."""

    def save_weights(self, task: Task, data: HistoryData, recipe: RecipeType, path: Path) -> None:
        save_weights(task.state_dict(), path, weights_metadata((), {"items": data.split.num_items}))

    def load_weights(self, task: Task, path: Path) -> None:
        """Raises CheckpointError where the file is another model's or another catalogue's."""
        try:
            task.load_state_dict(read_weights(path).tensors)
        except RuntimeError as error:
            raise CheckpointError(
                f"{path} does not fit this model: {str(error).splitlines()[-1].strip()}.",
                "Weights belong to one model and one catalogue.",
            ) from error

    def comparability(self, recipe: RecipeType, data: HistoryData) -> tuple[bool, str]:
        if recipe.target is None:
            return False, "Nothing is published for this data: compare with the baselines in the report."
        if recipe.target.protocol.startswith(DEMO):
            from challenges.recommendation.histories import demo

            is_demo = demo.is_demo(data.split.root)
            return is_demo, "" if is_demo else "The target belongs to the demo interactions, this run used others."
        expected = self.counts[recipe.target.protocol]
        found = (data.split.num_users, data.split.num_items, data.split.num_judged)
        if found == expected:
            return True, ""
        told = "{:,} training users, {:,} items and {:,} judged users"
        return False, f"The target is for {told.format(*expected)}, this data has {told.format(*found)}."

    def baselines(self, recipe: RecipeType, data: HistoryData) -> Mapping[str, Mapping[str, float]]:
        return baselines.figures(data.split, recipe.evaluation)

    def below_baseline(self, result: Result) -> str:
        best = result.baseline
        if best is None:
            return ""
        inside = result.interval is not None and result.interval.low <= best.value <= result.interval.high
        doubt = ", within the interval of chance" if inside else ""
        return (
            f"{best.name} does better than {self.model} on this data: {result.metric} {best.value:.4f} against "
            f"{result.value:.4f}{doubt}. Recommend by {best.name} ({WHERE[best.name]}; it needs no gradient), or bring "
            "more interactions per user and item."
        )

    def primary_metric(self) -> str:
        return self.metric

    def main_metric(self, recipe: RecipeType, metrics: Mapping[str, float]) -> str:
        """The target's metric or the model's, or what comes next to it where this data has no such ranking."""
        return nearest_metric(recipe.target.metric if recipe.target else self.metric, metrics)

    def keep_samples(self, run: RunDirectory, recipe: RecipeType, data: HistoryData) -> None:
        """Histories are shown from the split itself."""

    def report_sections(self, run: RunDirectory, recipe: RecipeType) -> Sequence[Section]:
        return sections(run, HistorySplit.read(run.data), recipe)

    def predict(
        self, run: RunDirectory, question: Question, output: Path, device: torch.device, console: Console
    ) -> None:
        from challenges.recommendation.histories.predict import predict

        predict(self, run, question, device, console)

    def contract(self, recipe: RecipeType, data: HistoryData) -> tuple[dict[str, Any], tuple[str, ...]]:
        return {"items": data.split.num_items, "padding": -1}, ()

    def labelled_inputs(self, data: HistoryData, split: str, limit: int) -> "Iterator[tuple[Arrays, Arrays]]":
        judged = data.split.num_judged
        chosen = np.unique(np.linspace(0, judged - 1, min(limit, judged)).astype(np.int64))
        for begin in range(0, len(chosen), BATCH):
            rows = chosen[begin : begin + BATCH]
            yield self.inputs_of(data.split, rows), {"targets": data.split.targets.select(rows).padded()}

    def judge(self, runner: "Runner", inputs: "Iterable[tuple[Arrays, Arrays]]", data: HistoryData) -> "Judged":
        """The share of held-out items in the served list, and the lists."""
        from common.export.parity import Judged

        hits, possible, lists = 0, 0, []
        for arrays, truth in inputs:
            items = runner(arrays)["items"]
            lists.append(items)
            found = (truth["targets"][:, :, None] == items[:, None]).any(2)
            hits += int(found.sum())
            possible += int(np.minimum((truth["targets"] >= 0).sum(1), items.shape[1]).sum())
        return Judged(hits / max(1, possible), np.concatenate(lists))

    def add_to_repository(
        self,
        repository: "ModelRepository",
        name: str,
        path: Path,
        sidecar: "ArtefactSidecar",
        engine: "Engine",
        options: "EngineOptions",
        run: RunDirectory,
    ) -> None:
        from common.serving.recommender import Names, add_recommender

        split = HistorySplit.read(run.data)
        names = Names(split.item_ids.tolist(), split.titles.tolist())
        if "user" in self.predicts_from:
            users = split.user_ids.tolist()
            names = replace(names, users=users, offsets=split.train.offsets, items=split.train.items)
        add_recommender(
            repository, name, path, sidecar.signature, engine, names, lowest_score=LOWEST, options=options
        )  # fmt: skip

    def compare_served(self, client: "Client", run: RunDirectory, limit: int) -> dict[str, Any]:
        split = HistorySplit.read(run.data)
        with np.load(run.predictions_file) as columns:
            index, expected = columns["index"], columns["top_items"]
        rows = np.unique(np.linspace(0, len(index) - 1, min(limit, len(index))).astype(np.int64))
        from common.stages.serving_stage import ask_recommender

        inputs = named_inputs(split, self.inputs_of(split, index[rows]))
        answers, milliseconds = ask_recommender(client, self.model, inputs)
        positions = {identifier: position for position, identifier in enumerate(split.item_ids.tolist())}
        served = np.full(expected[rows].shape, -1)
        for line, answer in zip(served, answers, strict=True):
            line[: len(answer)] = [positions[item.identifier] for item in answer]
        names = [
            title or identifier
            for title, identifier in zip(split.titles.tolist(), split.item_ids.tolist(), strict=True)
        ]
        overlap = (expected[rows][:, :, None] == served[:, None]).any(2).mean(1)
        targets = [set(split.targets.of(int(user)).tolist()) for user in index[rows]]
        return {
            "sent": len(rows),
            "sent_unit": "histories",
            "compared": len(rows),
            "unit": "answers",
            "same": int((overlap >= SERVED_SAME).sum()),
            "identical": int((overlap == 1).sum()),
            "correct": sum(bool(held & set(items)) for held, items in zip(targets, served.tolist(), strict=True)),
            "p50_ms": float(np.median(milliseconds)),
            "examples": [
                {
                    "asked": "; ".join(names[item] for item in split.seen.of(int(user))[-NAMED:].tolist()),
                    "answer": "; ".join(item.title or item.identifier for item in answer[:NAMED]),
                }
                for user, answer in list(zip(index[rows], answers, strict=True))[:EXAMPLES]
            ],
        }


def named_inputs(split: HistorySplit, inputs: "Arrays") -> "Arrays":
    """The same question in the data's own names, as a server is asked: str in place of positions, empty as padding."""
    names = {"user": split.user_ids}
    return {
        name: np.array([*names.get(name, split.item_ids).tolist(), ""], dtype=object)[positions]
        for name, positions in inputs.items()
    }


def padded_histories(histories: Histories, rows: np.ndarray, width: int | None = None) -> np.ndarray:
    """(row, width) int64 for exported models, the newest items of each history, -1 after them.

    width: by default that of the longest of all histories, so that batches can be joined.
    """
    longest = int(histories.lengths.max(initial=1)) if width is None else width
    return histories.select(rows).padded(longest)
