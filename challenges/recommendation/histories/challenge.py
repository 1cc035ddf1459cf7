"""What the recommenders of histories have in common: interactions in, ranked items out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from rich.console import Console

from challenges.recommendation.histories import check, held_out
from challenges.recommendation.histories.data import HistoryData
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.neighbours import Neighbours
from challenges.recommendation.histories.questions import Questions
from challenges.recommendation.histories.ranking_task import RankingTask
from challenges.recommendation.histories.recipes import RecommendationRecipe
from challenges.recommendation.histories.report import sections
from common.challenge import Challenge, CheckedData, Page, Trained, Weights
from common.errors import CheckpointError
from common.files import cache_folder
from common.question import Question
from common.report.elements import Section
from common.run.run_directory import RunDirectory
from common.storage.weight_files import read_weights, save_weights, weights_metadata

RecipeType = TypeVar("RecipeType", bound=RecommendationRecipe)


class HistoryWeights(Weights[RecommendationRecipe, HistoryData, RankingTask[Any]]):
    """Tables belong to one catalogue, so that a training starts from nothing."""

    def save(self, task: RankingTask[Any], data: HistoryData, recipe: RecommendationRecipe, path: Path) -> None:
        save_weights(task.state_dict(), path, weights_metadata((), {"items": data.split.num_items}))

    def load(self, task: RankingTask[Any], path: Path) -> None:
        """Raises CheckpointError where the file is another model's or another catalogue's."""
        tensors = read_weights(path).tensors
        task.neighbours = Neighbours.kept(tensors, "neighbours.")
        try:
            task.load_state_dict(tensors)
        except RuntimeError as error:
            raise CheckpointError(
                f"{path} does not fit this model: {str(error).splitlines()[-1].strip()}.",
                "Weights belong to one model and one catalogue.",
            ) from error


class HistoryPage(Page[RecommendationRecipe, HistoryData]):
    """Histories are shown from the split itself."""

    def sections(self, run: RunDirectory, recipe: RecommendationRecipe) -> Sequence[Section]:
        return sections(run, HistorySplit.read(run.data))


class HistoryChallenge(Challenge[RecipeType, HistoryData, RankingTask[Any]], Generic[RecipeType]):
    """NCF, VAE-CF or BERT4Rec: they differ in their tasks, in how batches are made, and in what is asked of them."""

    predicts_from: tuple[str, ...] = ("history",)
    questions: Questions
    weights = HistoryWeights()
    page = HistoryPage()

    def demo_data(self, console: Console) -> Path:
        from challenges.recommendation.histories import demo

        return demo.generate(cache_folder() / "demo" / "interactions", console=console)

    def check(self, root: Path, recipe: RecipeType, output: Path, console: Console) -> CheckedData:
        report = check.check(root, output, recipe.history, console=console)
        report.print(console)
        split = report.split
        summary: dict[str, object] = {"protocol": split.protocol, "users": split.num_users, "items": split.num_items}
        return CheckedData(root, split.fingerprint, summary)

    def check_test(
        self, root: Path, run: RunDirectory, recipe: RecipeType, output: Path, console: Console
    ) -> CheckedData:
        by_user = self.questions.asks_by_user
        learnt = HistorySplit.read(run.data)
        return held_out.check(root, output, learnt, recipe.history, by_user=by_user, console=console)

    def predict(
        self,
        trained: Trained[RecipeType, HistoryData, RankingTask[Any]],
        question: Question,
        output: Path,
        device: torch.device,
        console: Console,
    ) -> None:
        from challenges.recommendation.histories.predict import predict

        predict(trained, question, self.questions, device, console)
