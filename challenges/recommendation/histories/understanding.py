"""How interactions were taken, in words: which column is what, what counts as liked, and what their times mean."""

import re
import unicodedata
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from challenges.recommendation.files.layout import Layout
from challenges.recommendation.files.readers import Interactions
from challenges.recommendation.files.times import UNKNOWN_TIME, counts_by_unit, day
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.recipes import HistoryConfig
from common.language.telling import english

SHOWN_COLUMNS, SHOWN_EVENTS, FEW_VALUES = 12, 6, 12
FEW_STEPS, MANY_STEPS, MOST_USERS = 2, 20, 0.99  # from item to item of a user, of all; share of users that are sorted
_SIGNS = {
    ",": english("commas"), "\t": english("tabs"), ";": english("semicolons"), "|": english("bars"),
    " ": english("blanks"),
}  # fmt: skip
_ROLES = (english("user"), english("item"), english("rating"), english("event"), english("time"))
_EXPONENT = re.compile(r"\d(\.\d+)?[eE]\+\d+")
_POINT_ZERO = re.compile(r"\d+\.0+")


def understood(interactions: Interactions, split: HistorySplit, config: HistoryConfig) -> dict[str, str]:
    """What was decided about format, columns, ratings, events, times and split, a sentence each."""
    layout, tuning = interactions.source.layout, split.tuning
    splits = english(
        "{protocol}: {users:,} users to learn from, {judged:,} judged by {held_out:,} held-out interactions",
        protocol=split.protocol, users=split.num_users, judged=split.num_judged, held_out=len(split.targets.items),
    )  # fmt: skip
    if tuning is not None:
        splits = english(
            "{splits}, weights are chosen by {others:,} others", splits=splits, others=len(tuning.targets.items)
        )
    told = {
        "format": _format(interactions.source.kind, layout),
        "columns": _columns(layout),
        "ratings": _ratings(interactions, config),
        "events": _events(interactions),
        "times": _times(interactions),
        "titles": _titles(interactions, split),
        "splits": splits,
    }
    return {name: sentence for name, sentence in told.items() if sentence}


def _format(kind: str, layout: Layout) -> str:
    if not layout.delimiter:
        return "Parquet"
    if layout.delimiter == "::":
        return "MovieLens, user::item::rating::time"
    name = {
        "movielens": "MovieLens",
        "ncf": english("NCF's files"),
        "recbole": english("RecBole's .inter"),
        "lines": english("lines of user and item"),
        "user-lines": english("lines of a user and all the user's items"),
    }
    if layout.user_lines:
        return english("{format}, with blanks, tabs or commas between", format=name[kind])
    between = _SIGNS.get(layout.delimiter, repr(layout.delimiter))
    format_ = name.get(kind, english("a table"))
    told = english("{format} with {signs} between fields", format=format_, signs=between)
    if kind == "recbole" and layout.delimiter != "\t":
        told = english("{format} where RecBole itself has tabs", format=told)
    return english("{format}, numbers with a decimal comma", format=told) if layout.decimal_comma else told


def _columns(layout: Layout) -> str:
    if layout.user_lines:
        return english("the first is the user, the others are items, the order in which they stand counts as time's")
    if layout.delimiter and not layout.header and set(layout.names) == set(layout.roles.values()) == set(layout.roles):
        return english("{columns}, by their places", columns=", ".join(layout.names))
    told = ", ".join(
        english("{role} is {column!r}", role=role, column=layout.roles[role]) for role in _ROLES if role in layout.roles
    )
    if layout.guess:
        told += f" ({layout.guess})"
    shown = ", ".join(map(repr, layout.ignored[:SHOWN_COLUMNS]))
    others = len(layout.ignored) - SHOWN_COLUMNS
    if others > 0:
        return english("{roles}; not read: {columns} and {others:,} more", roles=told, columns=shown, others=others)
    return english("{roles}; not read: {columns}", roles=told, columns=shown) if shown else told


def _ratings(interactions: Interactions, config: HistoryConfig) -> str:
    if interactions.ratings is None:
        return english("none: every row counts as liked")
    values, _ = rating_counts(interactions.ratings)
    shown = english("{least:g} to {most:g}", least=values[0], most=values[-1])
    if 1 < len(values) <= FEW_VALUES:
        shown = ", ".join(f"{value:g}" for value in values)
    if config.minimum_rating is None:
        return english("{ratings}; every row counts as liked, whatever its rating", ratings=shown)
    share = float((interactions.ratings >= np.float32(config.minimum_rating)).mean())
    return english(
        "{ratings}; rows from {least:g} on count as liked ({share:.1%}), the others are dropped",
        ratings=shown, least=config.minimum_rating, share=share,
    )  # fmt: skip


def _titles(interactions: Interactions, split: HistorySplit) -> str:
    if interactions.source.titles is None:
        return ""
    named = int(np.count_nonzero(split.titles != ""))
    file = interactions.source.titles.name
    return english("{file!r} names {named:,} of {items:,} items", file=file, named=named, items=split.num_items)


def rating_counts(ratings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(value,) in ascending order, and how many rows have each."""
    counted = pc.value_counts(pa.array(ratings))
    values, counts = (counted.field(name).to_numpy(zero_copy_only=False) for name in ("values", "counts"))
    order = np.argsort(values)
    return values[order], counts[order]


def _events(interactions: Interactions) -> str:
    if not interactions.events:
        return ""
    total = sum(interactions.events.values())
    ordered = sorted(interactions.events.items(), key=lambda entry: -entry[1])
    told = [f"{kind!r} {count / total:.0%}" for kind, count in ordered[:SHOWN_EVENTS]]
    shown, others = ", ".join(told), len(ordered) - SHOWN_EVENTS
    if others > 0:
        return english("{kinds} and {others:,} more; every kind counts as liked", kinds=shown, others=others)
    return english("{kinds}; every kind counts as liked", kinds=shown)


def _known_times(interactions: Interactions) -> np.ndarray:
    """(row,) int64: the times there are, in the unit in which they were written."""
    times = np.zeros(0, np.int64) if interactions.times is None else interactions.times
    known = times[times != UNKNOWN_TIME]
    written: np.ndarray = known // 1_000_000 if interactions.time_kind == "fraction" else known
    return written


def _times(interactions: Interactions) -> str:
    known = _known_times(interactions)
    if not len(known):
        return english("none: the order of the lines counts as the order of time")
    if interactions.time_kind in ("date", "zoned date"):
        span = _span(known, "microseconds")
        if interactions.time_kind == "zoned date":
            return english("dates in UTC, {span}", span=span)
        return english("dates without a zone, taken as they stand, {span}", span=span)
    units = counts_by_unit(known)
    if not units:
        return english("numbers from {least:,} to {most:,}: the larger, the later", least=known.min(), most=known.max())
    unit = max(units, key=units.__getitem__)
    if units[unit] < len(known):
        return english("{unit} since 1970", unit=unit)
    return english("{unit} since 1970, {span}", unit=unit, span=_span(known, unit))


def _span(times: np.ndarray, unit: str) -> str:
    first, last = int(times.min()), int(times.max())
    try:
        return english("from {first} to {last}", first=day(first, unit), last=day(last, unit))
    except (ValueError, OverflowError):  # beyond the years that a calendar has
        return english("from {first:,} to {last:,} {unit} since 1970", first=first, last=last, unit=unit)


def warnings(interactions: Interactions, config: HistoryConfig) -> list[str]:
    """What may have been taken for something else than it is, each with what to do about it."""
    return [
        *_column_warnings(interactions.source.layout, config),
        *_rating_warnings(interactions, config),
        *_event_warnings(interactions),
        *_time_warnings(interactions),
        *_order_warnings(interactions),
        *_id_warnings("user", interactions.user_ids),
        *_id_warnings("item", interactions.item_ids),
    ]


def _column_warnings(layout: Layout, config: HistoryConfig) -> Iterator[str]:
    if layout.guess:
        taken = ", ".join(f"{name} as the {role}" for role, name in layout.roles.items())
        yield (
            f"The file names no columns. {taken[0].upper()}{taken[1:]} were taken by {layout.guess}. If that is wrong: "
            f"--columns {','.join(f'{role}={1 + layout.names.index(name)}' for role, name in layout.roles.items())}, "
            "each with its own place."
        )
    for name, role in layout.passed_over.items():
        if role in ("user", "item", "rating") and role not in config.named_columns:
            yield f"The {role} was read from {layout.roles[role]!r}, and not from {name!r}, which could hold it too."


def _rating_warnings(interactions: Interactions, config: HistoryConfig) -> Iterator[str]:
    if interactions.ratings is None or interactions.official is not None:
        return  # data with a split of its own is used as it is
    values, counts = rating_counts(interactions.ratings)
    least = -np.inf if config.minimum_rating is None else config.minimum_rating
    counted = values >= np.float32(least)
    shares = {
        "0": counts[counted & (values == 0)].sum() / counts.sum(),
        f"below 0, such as {values[0]:g},": counts[counted & (values < 0)].sum() / counts.sum(),
    }
    found = [f"{what} in {_percent(share)} of the rows" for what, share in shares.items() if share]
    if found:
        positive = values[values > 0]
        threshold = f"--history.minimum-rating {min(1, positive[0]):g}" if len(positive) else ""
        remedy = f"Train with {threshold} to drop them." if threshold else "Are these ratings?"
        name = interactions.source.layout.roles["rating"]
        yield f"The rating {name!r} is {' and '.join(found)}: they count as liked like all others. {remedy}"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else f"{share:.2%}"


def _event_warnings(interactions: Interactions) -> Iterator[str]:
    if interactions.events and len(interactions.events) > 1:
        yield (
            f"{interactions.source.layout.roles['event']!r} holds kinds of events ({_events(interactions)}). Keep the "
            "lines that are meant, or write a column rating, 1 for what is liked and 0 for the rest, and give "
            "--history.minimum-rating 1."
        )


def _time_warnings(interactions: Interactions) -> Iterator[str]:
    known = _known_times(interactions)
    if interactions.time_kind in ("date", "zoned date") or not len(known):
        return
    units = counts_by_unit(known)
    if len(units) > 1:
        told = " and ".join(f"{count:,} in {unit}" for unit, count in units.items())
        yield f"The times seem to be {told}: their order is wrong. Bring all to one unit."
    elif units and sum(units.values()) < len(known):
        yield f"{len(known) - sum(units.values()):,} times lie outside the years 1980 to 2099, such as 0 for unknown."
    if units and interactions.time_kind == "fraction" and not (known % 100).any() and (known % 60).any():
        yield (
            "All times end in 00, as numbers such as 1.600000e+09 do: they have lost digits, and the order of time. "
            "Write them whole."
        )


def _order_warnings(interactions: Interactions) -> Iterator[str]:
    """Without times the lines' order counts, and lines that are sorted by the item tell of no order."""
    if len(_known_times(interactions)) or interactions.official is not None:
        return
    order = np.argsort(interactions.users, kind="stable")
    users, items = interactions.users[order], interactions.items[order]
    same = users[1:] == users[:-1]
    steps, of_user = np.sign(np.diff(items.astype(np.int64)))[same], users[1:][same]
    lengths = np.bincount(of_user)
    telling = int((lengths >= FEW_STEPS).sum())
    for direction, name in ((1, "ascend"), (-1, "descend")):
        sorted_users = int(((np.bincount(of_user, steps == direction) == lengths) & (lengths >= FEW_STEPS)).sum())
        if telling and sorted_users >= MOST_USERS * telling and len(steps) >= MANY_STEPS:
            yield (
                f"There are no times, and the items of {sorted_users:,} of {telling:,} users {name} by id: the order "
                "means nothing. bert4rec learns from the order, and leave-one-out holds out the "
                f"{'largest' if direction > 0 else 'smallest'} id, not the newest item. Give a column of times, or "
                "train vae_cf, which reads histories in any order and holds out items by lot."
            )


def _id_warnings(role: str, ids: np.ndarray) -> Iterator[str]:
    yield from _twin_warnings(role, ids)
    if np.char.isdigit(ids).all():
        return
    names = set(ids.tolist())
    pointed = sorted(name for name in names if _POINT_ZERO.fullmatch(name))
    if pointed and any(name.isdigit() for name in names):
        twins = sum(name.split(".")[0] in names for name in pointed)
        yield (
            f"{len(pointed):,} {role} ids are written with .0, such as {pointed[0]!r}, {twins:,} also without it: "
            "these count as two ids and are perhaps the same. Programs write so where some are missing: write whole "
            "numbers."
        )
    rounded = sorted(name for name in names if _EXPONENT.fullmatch(name))
    if rounded:
        yield (
            f"{len(rounded):,} {role} ids are written with exponents, such as {rounded[0]!r}: digits may be lost, and "
            "several made one. Write the column as text or whole numbers."
        )


def _twin_warnings(role: str, ids: np.ndarray) -> Iterator[str]:
    """Ids that would be one as numbers, or without regard to case."""
    digits = np.char.isdigit(ids)
    numbers, names = ids[digits], ids[~digits]
    for difference, of_kind, alike in (
        ("zeros before them", numbers, np.char.lstrip(numbers, "0")),
        ("case, Unicode form or invisible letters", names, np.asarray([_folded(name) for name in names.tolist()], str)),
    ):
        _, first, group = np.unique(alike, return_index=True, return_inverse=True)
        twins = np.flatnonzero(first[group] != np.arange(len(of_kind)))
        if len(twins):
            pair = f"{str(of_kind[first[group[twins[0]]]])!r} and {str(of_kind[twins[0]])!r}"
            yield (
                f"{len(twins):,} {role} ids differ from another one in {difference} only, such as {pair}: "
                "each counts as an id of its own and is perhaps the same."
            )


def _folded(name: str) -> str:
    if name.isascii():
        return name.lower()
    return "".join(one for one in unicodedata.normalize("NFKC", name).casefold() if unicodedata.category(one) != "Cf")
