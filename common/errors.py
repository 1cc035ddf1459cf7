"""The kit's error family: every message says what was given, what is allowed, and what to do."""

from os import PathLike


class KitError(Exception):
    """A problem the user can mend, told in at most three lines and without a traceback.

    given:   what the kit met, naming the file or the value.
    allowed: what it can work with.
    remedy:  the next thing to do or type.
    """

    exit_code = 2

    def __init__(self, given: str, allowed: str = "", remedy: str = "") -> None:
        self.given, self.allowed, self.remedy = given, allowed, remedy
        super().__init__("\n".join(line for line in (given, allowed, remedy) if line))


class DataError(KitError):
    """Data that cannot be read, or from which nothing can be learnt."""


class RecipeError(KitError):
    """A recipe, an override or a combination of fields that cannot run."""


class CheckpointError(KitError):
    """A checkpoint or a weights file that is damaged or belongs to another model."""


class DamagedFileError(CheckpointError, ValueError):
    """A file of the kit's own that is empty, cut off, or holds something else than it was written with."""

    def __init__(
        self, path: "PathLike[str]", reason: str = "it is empty, cut off or no JSON", remedy: str = ""
    ) -> None:
        super().__init__(
            f"{path} is damaged: {reason}.",
            "The kit writes its files whole or not at all: a disk, a copy or an editor changed it.",
            remedy or "Restore it from a copy, or delete it and run the command again that wrote it.",
        )


class DeviceError(KitError):
    """A device that was asked for, or is visible, and cannot be used."""


class TrainingError(KitError):
    """Work that cannot go on: non-finite losses, a full disk, too little memory."""

    exit_code = 3


class ParityError(KitError):
    """An exported model that does not answer as the trained one does."""

    exit_code = 4


class ServingError(KitError):
    """A server or a client that cannot do what was asked."""

    exit_code = 5


class InterruptedRunError(KitError):
    """SIGINT or SIGTERM arrived; the run is saved. The exit code is 128 + the signal's number."""

    def __init__(self, signal_number: int, given: str, remedy: str) -> None:
        super().__init__(given, remedy=remedy)
        self.exit_code = 128 + signal_number
