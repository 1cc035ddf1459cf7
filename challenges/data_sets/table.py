"""The data sets that are known by name: where each is, how large, under which terms, and which recipes read it."""

from collections.abc import Mapping

from challenges.data_sets.entry import DataSet
from challenges.data_sets.medicine import MEDICINE
from challenges.data_sets.photographs import PHOTOGRAPHS
from challenges.data_sets.scenes import SCENES
from challenges.data_sets.tables import TABLES

DATA_SETS: Mapping[str, DataSet] = {**PHOTOGRAPHS, **MEDICINE, **SCENES, **TABLES}
