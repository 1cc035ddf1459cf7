"""A recommender on the page: a history that grows by clicking in; what comes next, why, and what is popular out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from challenges.recommendation.histories.baselines import transposed
from challenges.recommendation.histories.histories import Histories, HistorySplit
from challenges.recommendation.histories.questions import Questions, named_inputs
from challenges.recommendation.histories.serving.asked.naming import Catalogue
from challenges.recommendation.histories.serving.asking import recommend
from challenges.recommendation.histories.top_items import LONGEST, LOWEST
from common.challenge import Playground, Trained
from common.errors import DataError
from common.language.telling import english, grouped, tell
from common.playground.fields import ChoiceField, Example, Field, Option, PicksField, Values
from common.playground.session import Engine, Session
from common.report.elements import Markup, bar, columns, join, paragraph, table

SHOWN, FOUND, EXAMPLES, USERS = 10, 8, 12, 200  # items of an answer and of a search; histories and users offered
REASONS = 2  # items of the history named beside each recommendation
LONG_EXAMPLE = 10  # newest items of an example's history


@dataclass(frozen=True)
class Answer:
    """history: positions of what was given. items: positions, best first, with their scores."""

    history: tuple[int, ...]
    items: tuple[int, ...]
    scores: tuple[float, ...]


class HistoryPlayground(Playground):
    """Recommenders that are told a history, or a user of the training data and what that user had since."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    def open(self, trained: Trained[Any, Any, Any], engine: Engine) -> "HistorySession":
        return HistorySession(trained, engine, self._questions)


class HistorySession(Session):
    """One recommender."""

    def __init__(self, trained: Trained[Any, Any, Any], engine: Engine, questions: Questions) -> None:
        self._engine, self._questions = engine, questions
        self._split: HistorySplit = trained.data.split
        self._catalogue = Catalogue(self._split.item_ids.tolist(), self._split.titles.tolist())
        self._folded = [f"{title}\0{name}".casefold() for title, name in self._named()]
        self._popular = np.argsort(-self._split.popularity(), kind="stable")
        self._had_by = transposed(self._split.train, self._split.num_items)
        self._hard = _hard_first(trained, self._split)
        label = english("What the user had since") if questions.asks_by_user else english("History, oldest first")
        picks = PicksField(name="history", label=label, find=self._find, label_of=self._label_of)
        self.fields = (*self._user_field(), picks)
        self.name = trained.run.path.name
        self.about = english(
            "recommends from {items:,} items, from {users:,} users' histories",
            items=self._split.num_items,
            users=self._split.num_users,
        )

    def examples(self) -> Sequence[Example]:
        return [Example(self._caption(judged)) for judged in self._hard]

    def example(self, number: int) -> Values:
        judged = self._hard[number]
        if self._questions.asks_by_user:
            return {"user": str(self._split.user_ids[self._split.users[judged]]), "history": []}
        seen = self._split.seen.of(judged)[-LONG_EXAMPLE:]
        return {"history": [str(self._split.item_ids[item]) for item in seen.tolist()]}

    def ask(self, values: Values) -> Answer:
        given = self._positions(values.get("history") or [])
        if self._questions.asks_by_user:
            inputs, known = self._of_user(str(values.get("user") or ""), given)
        elif not given:
            raise DataError(
                english("The history is empty."),
                remedy=english("Search for something that was liked, or choose an example."),
            )
        else:
            inputs, known = {"history": np.asarray([given], np.int64)}, given
        items, scores = self._best(inputs)
        return Answer(tuple(known), items, scores)

    def show(self, answer: Answer, controls: Values) -> Markup:
        if not answer.items:
            return paragraph(tell("Nothing is left to recommend: every item is in the history."))
        top = answer.scores[0] - min(answer.scores[-1], 0.0) or 1.0
        low = min(answer.scores[-1], 0.0)
        rows = [
            (self._pick(item), bar((score - low) / top), self._why(item, answer.history))
            for item, score in zip(answer.items, answer.scores, strict=True)
        ]
        had = set(answer.history)
        popular = [item for item in self._popular.tolist() if item not in had][: len(rows)]
        counts = self._split.popularity()
        beside = [(self._pick(item), grouped(counts[item])) for item in popular]
        return columns(
            join([paragraph(tell("What comes next")), table((tell("item"), tell("score"), tell("because of")), rows)]),
            join(
                [
                    paragraph(tell("What is popular, whatever the history")),
                    table((tell("item"), tell("users")), beside, numeric=(1,)),
                ]
            ),
        )

    def _positions(self, names: Sequence[str]) -> list[int]:
        if len(names) > LONGEST:
            raise DataError(
                english("The history has {count:,} items.", count=len(names)),
                english("At most {most:,} are read.", most=LONGEST),
            )
        found = [self._catalogue.find(str(name)) for name in names]
        return [position for position in dict.fromkeys(found) if position is not None]

    def _of_user(self, user: str, since: Sequence[int]) -> "tuple[dict[str, np.ndarray], list[int]]":
        places = np.flatnonzero(self._split.user_ids == user)
        if not len(places):
            raise DataError(
                english("There is no user {user!r} in the training data.", user=user[:40])
                if user
                else english("No user is chosen."),
                remedy=english("Choose one of the list: the model has an embedding for each user and knows no others."),
            )
        known = [*self._split.train.of(int(places[0])).tolist(), *since]
        return {"user": places[:1, None].astype(np.int64), "seen": np.asarray([known], np.int64)}, known

    def _best(self, inputs: "dict[str, np.ndarray]") -> tuple[tuple[int, ...], tuple[float, ...]]:
        if self._engine.runner is not None:
            found = self._engine.runner(inputs)
            pairs = list(zip(found["items"][0].tolist(), found["scores"][0].tolist(), strict=True))
        else:
            with self._engine.connect() as client:
                (answer,) = recommend(client, self._engine.model, named_inputs(self._split, inputs))
            pairs = [(self._catalogue.find(item.identifier) or 0, item.score) for item in answer]
        kept = [(item, score) for item, score in pairs if score > LOWEST][:SHOWN]
        return tuple(item for item, _ in kept), tuple(score for _, score in kept)

    def _why(self, item: int, history: Sequence[int]) -> str:
        """The nearest items of the history: by the cosine between the sets of users that had each."""
        nearest = sorted(((similarity(self._had_by, item, other), other) for other in set(history)), reverse=True)
        return "; ".join(self._title(other) for share, other in nearest[:REASONS] if share > 0)

    def _find(self, text: str) -> list[Option]:
        words = text.casefold().split()
        found = (item for item in self._popular.tolist() if all(word in self._folded[item] for word in words))
        chosen = [item for item, _ in zip(found, range(FOUND), strict=False)]
        return [Option(str(self._split.item_ids[item]), self._title(item)) for item in chosen]

    def _label_of(self, name: str) -> str:
        position = self._catalogue.find(name)
        return name if position is None else self._title(position)

    def _pick(self, item: int) -> Markup:
        text = (
            '<span class="pick"><button type="button" data-pick="{}" aria-label="{}">+</button><span>{}</span></span>'
        )
        title = self._title(item)
        return Markup(text).format(
            str(self._split.item_ids[item]), tell("Add {title} to the history", title=title), title
        )

    def _title(self, item: int) -> str:
        return str(self._split.titles[item]) or str(self._split.item_ids[item])

    def _named(self) -> list[tuple[str, str]]:
        return list(zip(self._split.titles.tolist(), self._split.item_ids.tolist(), strict=True))

    def _user_field(self) -> tuple[Field, ...]:
        if not self._questions.asks_by_user:
            return ()
        users = [str(user) for user in self._split.user_ids[:USERS].tolist()]
        return (
            ChoiceField(name="user", label=english("User"), options=tuple(map(Option, users, users)), is_open=True),
        )

    def _caption(self, judged: int) -> str:
        count = int(self._split.seen.lengths[judged])
        target = self._title(int(self._split.targets.of(judged)[0]))
        if self._questions.asks_by_user:
            user = self._split.user_ids[self._split.users[judged]]
            return tell("user {user}, then {item}", user=user, item=target)
        return tell("{count} items, then {item}", count=min(count, LONG_EXAMPLE), item=target)


def similarity(had_by: Histories, one: int, other: int) -> float:
    """The cosine between two items' users, who are unique and ascending: 1 for the same people, 0 for none in common.

    had_by: the users of every item.
    """
    first, second = had_by.of(one), had_by.of(other)
    if not len(first) or not len(second):
        return 0.0
    common = len(np.intersect1d(first, second))
    return common / float(np.sqrt(len(np.unique(first)) * len(np.unique(second))))


def _hard_first(trained: Trained[Any, Any, Any], split: HistorySplit) -> list[int]:
    """Judged users, first those none of whose held-out items was among the best."""
    if not trained.run.predictions_file.is_file():
        return list(range(min(EXAMPLES, split.num_judged)))
    with np.load(trained.run.predictions_file) as columns:
        index, best = columns["index"], columns["top_items"]
    missed = [
        not set(split.targets.of(int(user)).tolist()) & set(row.tolist()) for user, row in zip(index, best, strict=True)
    ]
    order = np.argsort(~np.asarray(missed, bool), kind="stable")[:EXAMPLES]
    return [int(index[place]) for place in order]
