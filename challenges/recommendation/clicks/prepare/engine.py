"""Where the steps of a preparation run: here one after another, or on Dask's workers; their results are the same."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from challenges.recommendation.clicks.prepare.job import Job
from common.errors import DataError
from common.machine.processes import usable_cores

Result = TypeVar("Result")


class Engine(Protocol):
    """What runs the steps of a preparation."""

    def run(
        self, step: Callable[[Job, int], Result], job: Job, numbers: Sequence[int], tell: Callable[[], None]
    ) -> list[Result]:
        """`step(job, number)` of every number, in their order; tell is called after each."""


class Local:
    """The processes of this machine."""

    def run(
        self, step: Callable[[Job, int], Result], job: Job, numbers: Sequence[int], tell: Callable[[], None]
    ) -> list[Result]:
        results = []
        for number in numbers:
            results.append(step(job, number))
            tell()
        return results


class Dask:
    """A client's workers, which see the source and the prepared folder under the same paths as this process."""

    def __init__(self, client: "object") -> None:
        self._client = client

    def run(
        self, step: Callable[[Job, int], Result], job: Job, numbers: Sequence[int], tell: Callable[[], None]
    ) -> list[Result]:
        from dask.distributed import as_completed

        client: "Client" = self._client  # type: ignore[name-defined]  # noqa: F821, UP037
        shared = client.scatter(job, broadcast=True, hash=False)  # one key of equal jobs is let go of by each
        futures = [client.submit(step, shared, number, pure=False) for number in numbers]
        try:
            for future in as_completed(futures):
                future.result()
                tell()
            return [future.result() for future in futures]
        finally:
            client.cancel(futures)


@contextmanager
def opened(engine: str) -> Iterator[Engine]:
    """local, dask (a worker on each core here) or dask://host:port of a scheduler that runs already."""
    if engine == "local":
        yield Local()
        return
    kind, _, address = engine.partition("://")
    if kind != "dask" or ("://" in engine and not address):
        raise DataError(f"--engine is {engine}.", "It is local, dask, or dask://HOST:PORT of a scheduler.")
    try:
        from dask.distributed import Client, LocalCluster
    except ImportError:
        raise DataError(
            "Dask is not installed.", "Preparing on several machines needs it.", "pip install 'challenge-kit[dask]'"
        ) from None
    if address:
        try:
            client = Client(f"tcp://{address}", timeout=10)
        except (OSError, ValueError) as error:
            raise DataError(
                f"No Dask scheduler answers at {address}: {error}", remedy="Start one: dask scheduler"
            ) from None
        with client:
            yield Dask(client)
        return
    with (
        LocalCluster(n_workers=usable_cores(), threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield Dask(client)
