"""A click model on the page: a form of its columns in; the probability and what each field does to it out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from challenges.recommendation.clicks.answers import NEVER_SEEN, Words, model_inputs
from challenges.recommendation.clicks.serving.asking import score
from challenges.recommendation.clicks.spec import Categorical, FeatureSpec
from challenges.recommendation.clicks.transform import LOG_SHIFT, Transform
from challenges.recommendation.clicks.vocabulary import vocabulary_file
from common.challenge import Playground, Trained
from common.language.telling import english, tell
from common.playground.fields import ChoiceField, Example, Field, NumberField, Option, TextField, Values
from common.playground.session import Engine, Session
from common.report.elements import Markup, bar, join, paragraph, percentage, table

EXAMPLES, JUDGED, OFFERED = 12, 512, 50  # rows to begin with, of so many; values of a column
LONGEST = 1000  # characters of a value
RARE = english("(a rare value)")


@dataclass(frozen=True)
class Answer:
    """row: what was asked, as text. probability: of a click. without: the same with each field left empty."""

    row: Mapping[str, str]
    probability: float
    without: Mapping[str, float]


class ClickPlayground(Playground):
    """The form is made from the feature spec."""

    def open(self, trained: Trained[Any, Any, Any], engine: Engine) -> "ClickSession":
        return ClickSession(trained, engine)


class ClickSession(Session):
    """One click model."""

    def __init__(self, trained: Trained[Any, Any, Any], engine: Engine) -> None:
        self._engine = engine
        self._transform = Transform.read(trained.run.data)
        self._spec: FeatureSpec = self._transform.spec
        self._examples = self._rows_of(trained)
        self.fields = tuple(_fields(self._spec, trained.run.data))
        self.name = trained.run.path.name
        self.about = english(
            "says how likely {label!r} is, from {columns} columns",
            label=self._spec.label.name,
            columns=len(self._spec.raw_columns),
        )

    def examples(self) -> Sequence[Example]:
        name = self._spec.label.name
        return [
            Example(tell("{label} {value}, given {share}", label=name, value=value, share=percentage(found)))
            for value, found, _ in self._examples
        ]

    def example(self, number: int) -> Values:
        row = self._examples[number][2]
        numbers = {column.name for column in self._spec.dense}
        return {
            name: _rounded(text) if name in numbers else text.replace(RARE, tell(RARE)) for name, text in row.items()
        }

    def ask(self, values: Values) -> Answer:
        row = {name: _text(values.get(name)) for name in self._spec.raw_columns}
        given = [name for name in row if row[name]]
        found = self._probabilities([row, *({**row, name: ""} for name in given)])
        return Answer(row, float(found[0]), dict(zip(given, found[1:].tolist(), strict=True)))

    def show(self, answer: Answer, controls: Values) -> Markup:
        told = Markup('<p class="figure"><b>{}</b> {}</p>').format(
            percentage(answer.probability), bar(answer.probability)
        )
        effects = {name: answer.probability - without for name, without in answer.without.items()}
        largest = max([abs(effect) for effect in effects.values()] + [1e-9])
        rows = [
            (
                name,
                answer.row[name],
                bar(abs(effects[name]) / largest, colour="good" if effects[name] >= 0 else "bad"),
                f"{100 * effects[name]:+.1f}",
            )
            for name in sorted(effects, key=lambda name: -abs(effects[name]))
        ]
        words = paragraph(
            tell("Points that each field adds to the probability, beside the same row with the field left empty:")
        )
        head = (tell("field"), tell("value"), "", tell("points"))
        return join([told, words, table(head, rows, numeric=(3,))])

    def _probabilities(self, rows: Sequence[Mapping[str, str]]) -> np.ndarray:
        """(row,) float32."""
        columns = {name: [row[name] for row in rows] for name in self._spec.raw_columns}
        if self._engine.runner is None:
            asked = {name: np.array(values, object)[:, None] for name, values in columns.items()}
            with self._engine.connect() as client:
                return score(client, self._engine.model, asked)
        texts = {name: [value or None for value in values] for name, values in columns.items()}
        return self._engine.runner(model_inputs(self._spec, self._transform.answer_to(texts)))["probability"][:, 0]

    def _rows_of(self, trained: Trained[Any, Any, Any]) -> list[tuple[str, float, dict[str, str]]]:
        """Labels, probabilities and validation rows in words, those first whose label was least expected."""
        arrays, truth = next(iter(trained.inputs("val", JUDGED)))
        words = Words(self._spec, trained.run.data).of(arrays)
        rows = [
            {name: str(values[row, 0]).replace(NEVER_SEEN, RARE) for name, values in words.items()}
            for row in range(len(truth["label"]))
        ]
        label = truth["label"]
        found = self._probabilities(rows)
        order = np.argsort(-np.abs(found - label), kind="stable")[:EXAMPLES]
        said = {value: text for text, value in self._spec.label.values.items()}
        return [(said[int(label[row])], float(found[row]), rows[row]) for row in order.tolist()]


def _fields(spec: FeatureSpec, folder: Path) -> list[Field]:
    fields: list[Field] = []
    for column in spec.dense:
        typical = float(np.exp(column.mean) - LOG_SHIFT) if column.transform == "log" else column.mean
        fields.append(NumberField(name=column.name, label=column.name, value=round(typical, 3)))
    several = {column.name for column in spec.multi_hot}
    for number, looked_up in enumerate(spec.looked_up):
        name = looked_up.name
        if name in several:
            separator = next(column.separator for column in spec.multi_hot if column.name == name)
            fields.append(
                TextField(
                    name=name,
                    label=name,
                    help=english("Several values stand with {separator} between.", separator=separator),
                )
            )
        else:
            options = tuple(Option(value, value) for value in _commonest(looked_up, number, folder))
            value = options[0].value if options else ""
            fields.append(ChoiceField(name=name, label=name, options=options, value=value, is_open=True))
    return fields


def _commonest(column: Categorical, number: int, folder: Path) -> list[str]:
    """The values that training saw most often; none of a hashed column, which keeps no vocabulary."""
    if column.hashed:
        return []
    return [str(value) for value in pl.scan_parquet(vocabulary_file(folder, number)).head(OFFERED).collect()["value"]]


def _rounded(text: str) -> float:
    """A number as people would have written what float32 and a log made of it."""
    return float(f"{round(float(text), 4):.6g}")


def _text(value: Any) -> str:
    """As a request's column holds it."""
    if isinstance(value, float):
        return f"{value:.10g}"
    return "" if value is None else str(value)[:LONGEST]
