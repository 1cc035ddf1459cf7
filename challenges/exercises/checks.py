"""What exercises ask of a run: each check reads the run's own files and raises NotYetError with what is missing."""

from collections.abc import Callable, Mapping
from pathlib import Path

from challenges.exercises import outcome_checks, picture_checks, training_checks
from challenges.exercises.exercise import Exercise
from challenges.exercises.facts import Facts

Check = Callable[[Facts], str]
"""Says what holds; raises NotYetError where it does not."""

CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        outcome_checks.beat_target,
        outcome_checks.reached,
        outcome_checks.above_baseline,
        outcome_checks.above_popularity,
        outcome_checks.as_recorded,
        outcome_checks.tested,
        training_checks.exported,
        training_checks.eight_bits,
        training_checks.halved_rate,
        training_checks.accumulated,
        training_checks.checkpointed,
        training_checks.half_precision,
        training_checks.shared_out,
        training_checks.longer_history,
        training_checks.rows_shared,
        picture_checks.mixed,
        picture_checks.by_group,
        picture_checks.unmirrored,
        picture_checks.searched,
        picture_checks.suppressed_otherwise,
        picture_checks.tiled,
        picture_checks.found_small,
        picture_checks.counted,
        picture_checks.watched,
    )
}
"""By name, as the files of exercises name them."""


def judge(exercise: Exercise, path: Path) -> str:
    """What the run at `path` shows of the exercise, in a sentence.

    Raises NotYetError with the first thing that is missing, and as `Facts.of` does.
    """
    facts = Facts.of(path, exercise)
    told = [CHECKS[name](facts) for name in exercise.checks]
    return f"{exercise.name}: passed. {' '.join(told)}"
