"""A recommender as it is served: a history or a user in, ranked items out, in the data's own names."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from challenges.recommendation.histories.comparison import RankingComparison
from challenges.recommendation.histories.data import HistoryData
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.questions import Questions, named_inputs
from challenges.recommendation.histories.recipes import RecommendationRecipe
from challenges.recommendation.histories.serving.asking import (
    HistoryDialogue,
    Recommended,
    UserDialogue,
    recommend,
)
from challenges.recommendation.histories.top_items import LOWEST
from common.challenge import ServedFace
from common.language.telling import english
from common.positions import evenly_spread
from common.run.run_directory import RunDirectory

if TYPE_CHECKING:
    from common.export.parity import Judged
    from common.export.runner import Arrays, Runner
    from common.serving.client import Client
    from common.serving.repository import Exported, ModelRepository

BATCH = 64  # judged users of one batch of exported inputs
SENT_TOGETHER = 8  # histories of a request to Triton
EXAMPLES = 6  # users answered by Triton that the report shows
NAMED = 3  # items of an example that are named
SERVED_SAME = 0.8  # share of the evaluation's items that a served answer must have, whatever the precision


class ServedRecommender(ServedFace[RecommendationRecipe, HistoryData]):
    """Names in, the best unseen items by name out."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self.dialogue = UserDialogue() if questions.asks_by_user else HistoryDialogue()

    def example(self, run: RunDirectory) -> Sequence[str]:
        split = HistorySplit.read(run.data)
        if self._questions.asks_by_user:
            return (f"--user={split.user_ids[split.users[0]]}",)
        names = [str(split.item_ids[item]) for item in split.seen.of(0)]
        told = [name for name in names if not name.startswith("-")]  # which would be read as a flag
        return ("--history", *told[-NAMED:]) if told else super().example(run)

    def comparison(self) -> RankingComparison:
        return RankingComparison()

    def contract(self, recipe: RecommendationRecipe, data: HistoryData) -> tuple[dict[str, Any], tuple[str, ...]]:
        return {"items": data.split.num_items, "padding": -1}, ()

    def labelled_inputs(self, data: HistoryData, split: str, limit: int) -> "Iterator[tuple[Arrays, Arrays]]":
        judged = data.split.num_judged
        chosen = evenly_spread(judged, limit)
        for begin in range(0, len(chosen), BATCH):
            rows = chosen[begin : begin + BATCH]
            yield self._questions.of_judged(data.split, rows), {"targets": data.split.targets.select(rows).padded()}

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
        exported: "Exported",
        class_names: Sequence[str],
        run: RunDirectory,
    ) -> None:
        from challenges.recommendation.histories.serving.ensemble import Names, add_recommender

        split = HistorySplit.read(run.data)
        names = Names(split.item_ids.tolist(), split.titles.tolist())
        if self._questions.asks_by_user:
            users = split.user_ids.tolist()
            names = replace(names, users=users, offsets=split.train.offsets, items=split.train.items)
        add_recommender(repository, name, exported, names, lowest_score=LOWEST)

    def compare_served(self, client: "Client", name: str, run: RunDirectory, limit: int) -> dict[str, Any]:
        split = HistorySplit.read(run.data)
        with np.load(run.predictions_file) as columns:
            index, expected = columns["index"], columns["top_items"]
        rows = evenly_spread(len(index), limit)
        from common.serving.client import timed

        inputs = named_inputs(split, self._questions.of_judged(split, index[rows]))

        def ask(part: Sequence[int]) -> list[list[Recommended]]:
            return recommend(client, name, {column: array[part] for column, array in inputs.items()})

        answers, milliseconds = timed(ask, range(len(rows)), SENT_TOGETHER)
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
            "sent_unit": english("histories"),
            "compared": len(rows),
            "unit": english("answers"),
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
