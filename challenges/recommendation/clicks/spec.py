"""What the columns of a click log mean: the one file that preparing writes and training, export and serving read.

Prepared rows, and so every batch, hold:

    dense        (batch, dense) float32, transformed and never missing
    categorical  (batch, categorical) int32, ids below each column's cardinality
    label        (batch,) float32, 0 or 1
    group        (batch,) int64, where the spec names one: equal for the rows of one user or one shown page
    NAME__values (value,) int32 and NAME__offsets (batch + 1,) int64 for each multi-hot column NAME

in the order of the spec's columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from common.errors import DamagedFileError, DataError
from common.files import read_json, write_json

FORMAT: Literal["kit.features/1"] = "kit.features/1"
FILE = "features.json"
MISSING, RARE, FIRST = 0, 1, 2
"""Ids of a value that is not there, of one that is rare or was never seen, and of the commonest one."""

TENSORS = frozenset({"dense", "categorical", "multi_hot", "probability", "logit"})
"""Names that a served model's own tensors have."""
PACKED = frozenset({"label", "group", "row", "truth"})
"""Names that prepared rows have beside those; multi-hot columns stand there by their own."""

Transform = Literal["log", "none"]


@dataclass(frozen=True, kw_only=True)
class Dense:
    """A number.

    transform: log is log(x + 3), at least 0, for x from -3 on; none leaves it.
    missing:   the number that stands for none, before the transform.
    mean, deviation, edges: of the transformed training values; edges ascend, for piecewise-linear codes.
    """

    name: str
    transform: Transform = "log"
    missing: float = 0.0
    mean: float = 0.0
    deviation: float = 1.0
    edges: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Categorical:
    """A value of a set; ids: 0 missing, 1 rare or unseen, from 2 on by count in the training rows and then by value.

    cardinality: ids there are; 0 until prepared. threshold: rarer values share id 1.
    hashed:      every value's id is a hash from 2 on, and id 1 is not used.
    """

    name: str
    cardinality: int = 0
    threshold: int = 1
    hashed: bool = False


@dataclass(frozen=True, kw_only=True)
class MultiHot(Categorical):
    """Any number of values in one cell; a missing cell has none.

    separator: stands between them in text.
    """

    separator: str = "|"


@dataclass(frozen=True, kw_only=True)
class Label:
    """What is predicted; values: what a cell may say, and 0 or 1 for it."""

    name: str = "label"
    values: Mapping[str, int] = field(default_factory=lambda: {"0": 0, "1": 1})


@dataclass(frozen=True, kw_only=True)
class Cross:
    """Categorical columns that the wide part also sees together, hashed into `buckets`."""

    columns: tuple[str, ...]
    buckets: int

    @property
    def name(self) -> str:
        return " x ".join(self.columns)


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """All columns of a click log, each kind in the order of its packed column."""

    dense: tuple[Dense, ...] = ()
    categorical: tuple[Categorical, ...] = ()
    multi_hot: tuple[MultiHot, ...] = ()
    label: Label = field(default_factory=Label)
    group: str | None = None
    crosses: tuple[Cross, ...] = ()
    format: Literal["kit.features/1"] = FORMAT

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        twice = sorted({name for name in names if names.count(name) > 1} | ({self.label.name} & set(names)))
        if twice:
            raise DataError(f"Column {twice[0]} stands twice in the feature spec.", "A column has one meaning.")
        taken = sorted(TENSORS.intersection(names) | PACKED.intersection(column.name for column in self.multi_hot))
        if taken:
            raise DataError(
                f"Column {taken[0]} has a name that prepared rows or served models use themselves.",
                f"Those are {', '.join(sorted(TENSORS))}; of several values {', '.join(sorted(PACKED))}, too.",
                "Rename the column.",
            )
        if not names:
            raise DataError("The feature spec names no dense, categorical or multi-hot column.", "One is needed.")
        if set(self.label.values.values()) != {0, 1}:
            raise DataError(
                f"The label {self.label.name} is said to be {_values(self.label)}.",
                "Its values stand for 0 and for 1.",
            )
        known = {column.name for column in self.categorical}
        for cross in self.crosses:
            lacking = [name for name in cross.columns if name not in known]
            if lacking or len(cross.columns) < 2 or cross.buckets < 2:
                raise DataError(
                    f"The cross {cross.name} of {cross.buckets} buckets cannot be made"
                    + (f": there is no categorical column {lacking[0]}." if lacking else "."),
                    "A cross has two or more categorical columns and two or more buckets.",
                )

    @property
    def features(self) -> tuple[Dense | Categorical, ...]:
        return (*self.dense, *self.categorical, *self.multi_hot)

    @property
    def looked_up(self) -> tuple[Categorical, ...]:
        """The columns with ids, multi-hot ones last: one embedding table each."""
        return (*self.categorical, *self.multi_hot)

    @property
    def raw_columns(self) -> tuple[str, ...]:
        """What a request brings."""
        return tuple(feature.name for feature in self.features)

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, asdict(self))

    @staticmethod
    def read(path: Path) -> "FeatureSpec":
        """From features.json, or the folder that holds it; DataError where it is absent or of another format."""
        from pydantic import TypeAdapter, ValidationError

        file = path / FILE if path.is_dir() else path
        if not file.is_file():
            raise DataError(f"There is no {file}.", "It says what the columns mean.", "Write it with kit prepare.")
        value = read_json(file)
        found = value.get("format", "no format") if isinstance(value, dict) else "no object"
        if found != FORMAT:
            raise DataError(f"{file} is {found}.", f"This version reads {FORMAT}.", "Prepare the data again.")
        unknown = sorted(set(value) - {one.name for one in fields(FeatureSpec)})
        try:
            if unknown:
                raise DamagedFileError(file, f"it has the unknown field {unknown[0]}")
            return TypeAdapter(FeatureSpec).validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise DamagedFileError(file, f"{place}: {first['msg'].lower()}") from None


def require_same(expected: FeatureSpec, found: FeatureSpec, where: str) -> None:
    """Raise DataError with the first column that differs, what was expected of it and what was found.

    where: what `found` came from.
    """
    for column, wanted, got in _differences(expected, found):
        raise DataError(
            f"{where} does not fit the model: column {column} should be {wanted} and is {got}.",
            "A model reads data of the spec that it was trained with.",
            "Prepare the data with the model's own spec: kit prepare … --like RUN",
        )


def require_columns(spec: FeatureSpec, present: Sequence[str], where: str, *, label: bool) -> None:
    """Raise DataError where a raw table lacks a column of the spec."""
    wanted = [*spec.raw_columns, *([spec.label.name] if label else [])]
    for name in (*wanted, *([spec.group] if spec.group and label else [])):
        if name not in present:
            raise DataError(
                f"{where}: column {name} should be {_told(spec, name)} and is missing.",
                f"There are: {', '.join(present)}.",
            )


def _differences(expected: FeatureSpec, found: FeatureSpec) -> Iterator[tuple[str, str, str]]:
    """The column, what was expected of it and what was found."""
    for kind in ("dense", "categorical", "multi_hot"):
        wanted, got = _by_name(getattr(expected, kind)), _by_name(getattr(found, kind))
        yield from _kinds(expected, found, [*wanted, *got])
        for place, name in enumerate(wanted, 1):
            if list(got).index(name) + 1 != place:
                yield name, f"number {place} of its kind", f"number {list(got).index(name) + 1}"
            theirs = asdict(got[name])
            for part, value in asdict(wanted[name]).items():
                if value != theirs[part]:
                    yield name, f"of {part} {value}", f"of {part} {theirs[part]}"
    yield from _kinds(expected, found, [name for name in (expected.group, found.group) if name])
    if expected.label != found.label:
        mine, theirs_told = _values(expected.label), _values(found.label)
        yield expected.label.name, f"the label with {mine}", f"the label {found.label.name} with {theirs_told}"
    crosses, others = ({cross.name: cross.buckets for cross in spec.crosses} for spec in (expected, found))
    for name in [*crosses, *others]:
        if crosses.get(name) != others.get(name):
            yield name, f"a cross of {crosses.get(name, 'no')} buckets", f"one of {others.get(name, 'no')}"


def _kinds(expected: FeatureSpec, found: FeatureSpec, names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for name in names:
        wanted, got = _told(expected, name), _told(found, name)
        if wanted != got:
            yield name, wanted, got


def _by_name(features: Sequence[Any]) -> dict[str, Any]:
    return {feature.name: feature for feature in features}


def _told(spec: FeatureSpec, name: str) -> str:
    kind = _kind(spec, name)
    if name != spec.group:
        return kind
    return "the group" if kind == "absent" else f"{kind} and the group"


def _kind(spec: FeatureSpec, name: str) -> str:
    if name == spec.label.name:
        return "the label"
    for kind, features in (("dense", spec.dense), ("categorical", spec.categorical), ("multi-hot", spec.multi_hot)):
        if any(feature.name == name for feature in features):
            return kind
    return "absent"


def _values(label: Label) -> str:
    return " ".join(f"{text}={value}" for text, value in label.values.items())
