"""`kit index` and `kit similar`: an index of pictures beside a run, and the pictures that are most like others."""

import contextlib
import importlib.util
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from challenges.classification.manifest import Manifest
from challenges.classification.search.building import brought_up_to_date, forget_parts, pictures_in
from challenges.classification.search.copies import (
    GROUPS,
    groups_of,
    looks_of,
    print_copies,
    proposed,
    proven,
    thumbnail_vectors,
    write_copies,
)
from challenges.classification.search.embedding import (
    Embed,
    Embedder,
    ServedEmbedder,
    graph_of,
    prepared,
    write_embedding_graph,
)
from challenges.classification.search.index import PictureIndex, load_faiss
from challenges.classification.search.measuring import colour_histograms, random_vectors, retrieval
from challenges.classification.search.report import FOLDER, MEASURED
from challenges.classification.serving import EMBEDDING
from common.challenge import PictureSearch, Trained
from common.errors import DataError
from common.export.artefact import read_sidecar
from common.files import write_json, write_text
from common.language.telling import english
from common.report.elements import Markup, gallery, join, picture
from common.report.pictures import thumbnail
from common.run.run_directory import RunDirectory
from common.serving.client import Client
from common.storage.run_lock import hold
from common.terminal.console import plain, say
from common.terminal.progress import counting
from common.vision.images import ImageProblem, probe

GRAPH = "embedding.onnx"
MARK = '<meta name="generator" content="challenge kit, kit similar">'
STYLE = (
    "body{font:15px system-ui,sans-serif;margin:24px;max-width:1200px;color-scheme:light dark}"
    ".gallery{display:grid;gap:12px;grid-template-columns:repeat(auto-fill,minmax(150px,1fr))}"
    "figure{margin:0}figcaption{font-size:13px;overflow-wrap:anywhere}img{max-width:100%}"
)


class ClassifierSearch(PictureSearch):
    """By the layer before the classifier."""

    def index(
        self, trained: Trained[Any, Any, Any], folders: Sequence[Path], console: Console, url: str | None = None
    ) -> None:
        load_faiss()
        paths = pictures_in(folders)
        folder = trained.run.path / FOLDER
        folder.mkdir(exist_ok=True)
        with hold(folder, "index"), _embedder(trained, folder, url) as (embed, graph):
            started = time.perf_counter()
            index, told = brought_up_to_date(embed, graph, paths, folder, console)
            seconds = time.perf_counter() - started
            index.write(folder)
            forget_parts(folder)
            rate = f", {told['embedded'] / seconds:.1f} images/s" if told["embedded"] else ""
            say(console, f"index: {', '.join(f'{count:,} {what}' for what, count in told.items())}{rate}: {folder}")
            self._measure(trained, embed, folder, console)

    def similar(
        self,
        trained: Trained[Any, Any, Any],
        images: Sequence[Path],
        top_k: int,
        page: Path | None,
        console: Console,
        url: str | None = None,
    ) -> None:
        load_faiss()
        if page is not None:
            _refuse_foreign(page)
        for path in images:
            problem = probe(path)
            if isinstance(problem, ImageProblem):
                raise DataError(f"{path} cannot be read as a picture: {problem.reason}.", remedy="Name another.")
        folder = trained.run.path / FOLDER
        index = _index(trained.run, folder)
        with _embedder(trained, folder, url) as (embed, _):
            cosines, rows = index.nearest(embed(images), top_k)
        table = Table(
            Column("image", overflow="fold"), Column("similar", overflow="fold"), Column("cosine", justify="right")
        )
        for path, near, found in zip(images, cosines, rows, strict=True):
            for place, (cosine, row) in enumerate(zip(near, found, strict=True)):
                table.add_row("" if place else plain(path), plain(index.paths[row]), f"{cosine:.3f}")
        console.print(table)
        if page is not None:
            write_text(page, _html(images, index, cosines, rows))
            say(console, f"Page: {page}")

    def copies(self, checked: Path, trained: Trained[Any, Any, Any] | None, console: Console) -> Path:
        load_faiss()
        manifest = Manifest.read(checked / "manifest.csv")
        say(console, f"copies: proposed by thumbnails{f' and by what {trained.run.path} sees' if trained else ''}")
        looks, thumbnails = looks_of(manifest)
        pairs = proposed(*thumbnail_vectors(thumbnails))
        if trained:
            vectors = self._vectors(trained, manifest, checked, console)
            pairs = sorted({*pairs, *proposed(vectors)})
        with counting("comparing pairs", console) as count:
            found = list(proven(manifest, looks, pairs, count))
        groups = groups_of(manifest, found)
        write_copies(manifest, found, groups, checked)
        print_copies(manifest, found, groups, checked, console)
        return checked / GROUPS

    def _vectors(
        self, trained: Trained[Any, Any, Any], manifest: Manifest, checked: Path, console: Console
    ) -> np.ndarray:
        """(picture, width) of the manifest's pictures; those of an earlier check by the same graph are kept.

        They lie in the run: what lies in the check's folder goes into every run that is trained on the data.
        """
        own = trained.run.path / FOLDER
        kept = own / "checked" / checked.name
        kept.mkdir(parents=True, exist_ok=True)
        with hold(own, "check --similar"), _embedder(trained, own) as (embed, graph):
            paths = [Path(manifest.root) / path for path in manifest.paths.tolist()]
            index, _ = brought_up_to_date(embed, graph, paths, kept, console)
        index.write(kept)
        forget_parts(kept)
        rows = {path: row for row, path in enumerate(index.paths)}
        vectors = index.vectors[: len(index)]
        return vectors[[rows[str(path)] for path in paths]]

    def _measure(self, trained: Trained[Any, Any, Any], embed: Embed, folder: Path, console: Console) -> None:
        """Write how well the run's own validation pictures find their class, for the report."""
        validation = trained.data.validation
        paths = [Path(validation.root) / str(path) for path in validation.paths]
        vectors = embed(paths)
        seen = np.concatenate([trained.data.preprocessing.pixels(images) for images in prepared(trained.data, paths)])
        others = {
            english("this run"): vectors,
            english("colour histogram"): colour_histograms(seen),
            english("random"): random_vectors(*vectors.shape),
        }
        figures = {name: retrieval(found, validation.labels) for name, found in others.items()}
        write_json(folder / MEASURED, {"pictures": len(paths), "figures": figures})
        table = Table("validation pictures", *(Column(name, justify="right") for name in figures["random"]))
        for name, found in figures.items():
            table.add_row(name, *(f"{value:.3f}" for value in found.values()))
        console.print(table)


class SimilarPictures:
    """An index that `kit index` left beside a run, to be asked while the run is open."""

    def __init__(self, embed: Embedder, index: PictureIndex) -> None:
        self._embed, self._index = embed, index

    @classmethod
    def of(cls, trained: Trained[Any, Any, Any]) -> "SimilarPictures | None":
        """None where there is no index, or none of this export, or no faiss to read it."""
        folder = trained.run.path / FOLDER
        if importlib.util.find_spec("faiss") is None:
            return None
        index = PictureIndex.read(folder)
        if index is None or index.graph != graph_of(trained.run)[1]:
            return None
        return cls(_embedder_here(trained, folder)[0], index)

    def __call__(self, image: Path, count: int) -> list[tuple[Path, float]]:
        """The indexed pictures that are most like one that DALI reads, and their cosines, the most alike first."""
        cosines, rows = self._index.nearest(self._embed([image]), count)
        return [(Path(self._index.paths[row]), float(cosine)) for cosine, row in zip(cosines[0], rows[0], strict=True)]


@contextlib.contextmanager
def _embedder(trained: Trained[Any, Any, Any], folder: Path, url: str | None = None) -> Iterator[tuple[Embed, str]]:
    """What embeds, and the sha256 of the run's exported graph in float32: parity held all others against it.

    url: of a server of the run; None: in this process.
    """
    if url is None:
        yield _embedder_here(trained, folder)
        return
    with Client(url) as client:
        yield ServedEmbedder(client, trained.challenge.model), graph_of(trained.run)[1]


def _embedder_here(trained: Trained[Any, Any, Any], folder: Path) -> tuple[Embedder, str]:
    """By the exported graph where it gives embeddings, else by one made of it, kept in the index's folder."""
    source, digest = graph_of(trained.run)
    if EMBEDDING in {spec.name for spec in read_sidecar(source).signature.outputs}:
        return Embedder(trained, source), digest
    graph = folder / GRAPH
    marked = folder / f"{GRAPH}.of"
    if not (graph.is_file() and marked.is_file() and marked.read_text() == digest):
        marked.unlink(missing_ok=True)
        write_embedding_graph(source, graph)
        write_text(marked, digest)
    return Embedder(trained, graph), digest


def _index(run: RunDirectory, folder: Path) -> PictureIndex:
    index = PictureIndex.read(folder)
    if index is None:
        raise DataError(f"{run.path} has no index of pictures.", remedy=f"Make one: kit index {run.path} FOLDER")
    if index.graph != graph_of(run)[1]:
        raise DataError(
            f"The index in {folder} is of another export of the run.", "Vectors of two graphs cannot be compared.",
            f"Bring it up to date: kit index {run.path} FOLDER",
        )  # fmt: skip
    return index


def _refuse_foreign(page: Path) -> None:
    if page.exists() and MARK not in page.read_text(encoding="utf-8", errors="replace")[:4096]:
        raise DataError(
            f"{page} is there and is no page of similar pictures.", "A page takes the place of an earlier one only.",
            "Name another file: --html FILE",
        )  # fmt: skip


def _html(images: Sequence[Path], index: PictureIndex, cosines: np.ndarray, rows: np.ndarray) -> str:
    """One file that needs nothing else."""
    parts = []
    for path, near, found in zip(images, cosines, rows, strict=True):
        cards = [_card(path, "the picture")]
        cards += [_card(Path(index.paths[row]), f"{cosine:.3f}") for cosine, row in zip(near, found, strict=True)]
        parts.append(Markup("<h2>{}</h2>{}").format(path.name, gallery(cards)))
    head = Markup(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">{}<title>{}</title><style>{}</style></head>'
    )
    body = Markup("<body><h1>Similar pictures</h1>{}</body></html>\n").format(join(parts))
    return str(head.format(Markup(MARK), "Similar pictures", Markup(STYLE)) + body)


def _card(path: Path, told: str) -> tuple[str, Markup]:
    uri = thumbnail(path)
    shown = picture(uri, path.name) if uri else Markup("<p>{}</p>").format("cannot be read any more")
    return shown, Markup("{}<br>{}").format(told, path.name)
