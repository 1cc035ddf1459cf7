"""The part of the page that takes videos, on Gradio: one is brought, looked at with progress, and told of."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.language.telling import in_this_language, tell
from common.playground import texts
from common.playground.films import KEPT_SECONDS, LONGEST, MAX_FILM, Shelf
from common.playground.widgets import ANSWERS, Widget, markup, path_of, settings_of

if TYPE_CHECKING:
    from common.playground.page import Shown


def lay_out_films(shown: Sequence["Shown"], shelf: Shelf, controls: Sequence[Widget]) -> None:
    """A place for a video and what each run finds in it, below the rest; the controls are those of pictures."""
    import gradio

    hint = tell(
        "At most {megabytes} MB, of which the first {seconds:g} seconds are looked at. Boxes are drawn from the lowest "
        "score shown.",
        megabytes=MAX_FILM // 2**20,
        seconds=LONGEST,
    )
    with gradio.Accordion(tell("Video"), open=False):
        markup(texts.inside(texts.hint(hint)))
        drop = gradio.File(label=tell("Video"), file_types=["video"], height=140)
        drop.preprocess = path_of  # Gradio's own leaves an empty file behind
        source = gradio.State(None, time_to_live=KEPT_SECONDS)
        with gradio.Row():
            answers, outputs = zip(*(_column(one, alone=len(shown) == 1) for one in shown), strict=True)
    turned = [each.value for each in controls]

    def take(path: str | None) -> tuple[None, str | None]:
        """Bring the upload where no one else looks, and empty the place it was dropped on."""
        if path is None:
            return None, None
        kept = shelf.new().folder / f"brought{Path(path).suffix[:8]}"
        shutil.move(path, kept)
        return None, str(kept)

    @in_this_language
    def annotate(brought: str | None, *given: Any, progress: Any = gradio.Progress()) -> list[Any]:  # noqa: B008
        if brought is None:
            return [gradio.skip() for _ in (*answers, *outputs)]
        settings = settings_of(controls, given)
        try:
            found = [_annotated(one, Path(brought), shelf, settings, progress) for one in shown]
        finally:
            shutil.rmtree(Path(brought).parent, ignore_errors=True)
        return [*(answer for answer, _ in found), *(told for _, told in found)]

    @in_this_language
    def turn(*given: Any) -> Any:
        settings = settings_of(controls, given[len(shown) :])
        told = [
            str(texts.inside(one.session.videos.show(answer, settings))) if answer and one.session.videos else ""
            for one, answer in zip(shown, given, strict=False)
        ]
        return told if len(told) > 1 else told[0]

    taken = drop.upload(take, drop, [drop, source], show_progress="hidden", queue=False, api_visibility="private")
    taken.then(annotate, [source, *turned], [*answers, *outputs], show_progress="full", **ANSWERS)
    for each in controls:
        each.on_change(turn, [*answers, *turned], list(outputs))


def _column(one: "Shown", alone: bool) -> tuple[Any, Any]:
    import gradio

    with gradio.Column(min_width=300):
        if not alone:
            markup(texts.inside(texts.hint(one.session.name)))
        return gradio.State(None, time_to_live=KEPT_SECONDS), markup()


def _annotated(one: "Shown", source: Path, shelf: Shelf, settings: dict[str, Any], progress: Any) -> tuple[Any, str]:
    """The answer of a run and what is shown of it; None and what to tell instead."""
    videos = one.session.videos
    assert videos is not None

    def told(done: int, total: int) -> None:
        progress((done, total), desc=one.session.name, unit=tell("frames"))

    answer, problem = one.guarded(lambda: videos.annotate(source, shelf.new(), settings, one.lock, told))
    shown = videos.show(answer, settings) if problem is None else problem
    return answer, str(texts.inside(shown))
