"""Checks of what a run reached."""

from challenges.exercises.facts import Facts, NotYetError


def beat_target(facts: Facts) -> str:
    """The interval's worse end has to be better than the target, so that other samples would say so too."""
    result = facts.result
    target, interval = result.target, result.interval
    if target is None or result.verdict == "not-comparable" or interval is None:
        raise NotYetError(
            f"{facts.run.path} is compared with no target: {result.reason}",
            "A target is beaten on the data that it was published for.",
            f"Try: {facts.exercise.lines[0]}",
        )
    worst = interval.low if target.higher_is_better else interval.high
    facts.demand(
        target.reached_by(worst) and worst != target.value,
        f"{facts.figure}, and the target {target.value:g} is not below all of the interval.",
        "Beaten means that even the interval's worse end is better than the target.",
        facts.exercise.hint["en"].strip(),
    )
    return f"{facts.figure}: all of the interval is better than {target.value:g}."


def reached(facts: Facts) -> str:
    result = facts.result
    facts.demand(
        result.verdict == "reached",
        f"{facts.figure}, and the verdict is {result.verdict}: {result.reason}",
        "The run has to reach its recipe's target.",
    )
    return f"{facts.figure}: the target is reached."


def above_baseline(facts: Facts) -> str:
    best = facts.result.baseline
    if best is None:
        raise NotYetError(
            f"{facts.run.path} has no baseline.",
            "A figure says something beside what a simple method reaches.",
            f"Run: kit evaluate {facts.run.path}",
        )
    facts.demand(
        not facts.result.is_below_baseline and facts.result.value != best.value,
        f"{facts.figure}, and {best.name} reaches {best.value:.4f}.",
        "The model has to do better than the best simple method.",
        facts.exercise.hint["en"].strip(),
    )
    return f"{facts.figure}, where {best.name} reaches {best.value:.4f}."


def above_popularity(facts: Facts) -> str:
    metric = facts.result.metric
    popularity = next((one.value for one in facts.result.baselines if one.name == "popularity"), None)
    if popularity is None:
        raise NotYetError(
            f"{facts.run.path} does not say what popularity reaches.",
            "What is liked by most is the first thing that a recommender is held against.",
            f"Run: kit evaluate {facts.run.path}",
        )
    facts.demand(
        facts.result.value > popularity,
        f"{facts.figure}, and recommending what is popular reaches {popularity:.4f}.",
        f"The model's {metric} has to be higher.",
        facts.exercise.hint["en"].strip(),
    )
    return f"{facts.figure}, where recommending what is popular reaches {popularity:.4f}."


def as_recorded(facts: Facts) -> str:
    """Not below the interval of the committed record of the same training."""
    if not facts.exercise.records:
        raise NotYetError(
            f"There is no committed record of {facts.exercise.lines[0]}.",
            "A run is held against the records of benchmarks/outcomes, which a checkout has.",
            "Run the check from a checkout of the kit.",
        )
    record = facts.exercise.records[0]
    least = record.interval[0] if record.interval else record.value
    value = facts.result.metrics.get(record.metric)
    facts.demand(
        value is not None and value >= least,
        f"{facts.run.path} reached {record.metric} {'nothing' if value is None else f'{value:.4f}'}.",
        f"The committed record says {record}; {least:.4f} or more agrees with it.",
        f"Train as the record was: {facts.exercise.lines[0]}",
    )
    return f"{record.metric} {value:.4f} agrees with the committed record, {record}."


def tested(facts: Facts) -> str:
    found = facts.run.test_evaluations()
    facts.demand(
        bool(found),
        f"{facts.run.path} was judged on its validation samples alone.",
        "Some of what it was never chosen by has to judge it.",
        f"Run: kit evaluate {facts.run.path} --data TEST",
    )
    value = found[0]["metrics"].get(facts.result.metric)
    told = "" if value is None else f": {facts.result.metric} {value:.4f}"
    return f"It was judged on data that it was never chosen by{told}."
