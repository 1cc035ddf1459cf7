"""Exercises that go further than the three commands: what to try, what comes out, and whether a run shows it."""

from challenges.exercises.exercise import LANGUAGES, Exercise, Recorded
from challenges.exercises.loading import EXERCISES, find

__all__ = ["EXERCISES", "LANGUAGES", "Exercise", "Recorded", "find"]
