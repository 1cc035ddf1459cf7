"""Charts as inline SVG. Their colours are the page's CSS variables, so that they follow light and dark."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from common.language.telling import grouped, tell
from common.report.elements import Key, figure

Colour = Literal["ink", "muted", "line", "accent", "second", "third", "good", "bad"]
STAND_INS = {name: f"#0a{number:02x}0b" for number, name in enumerate(get_args(Colour), start=1)}
"""Colours drawn with, each replaced in the SVG text by the CSS variable of its name."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "text.color": STAND_INS["muted"],
    "axes.labelcolor": STAND_INS["muted"],
    "axes.edgecolor": STAND_INS["line"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": STAND_INS["line"],
    "grid.linewidth": 0.7,
    "xtick.color": STAND_INS["line"],
    "ytick.color": STAND_INS["line"],
    "xtick.labelcolor": STAND_INS["muted"],
    "ytick.labelcolor": STAND_INS["muted"],
    "xtick.major.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
}
POINTS = 400  # more points than this in a line cannot be told apart at the page's width
WIDTH, HEIGHT = 6.0, 2.7  # inches of 72 units; the page scales them to its columns


@dataclass(frozen=True)
class Line:
    """One curve of a chart.

    x, y:     (point,); NaN leaves a gap.
    smoothed: draw the points pale and their running mean over them.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    colour: Colour = "accent"
    smoothed: bool = False
    markers: bool = False


def line_chart(
    title: str,
    lines: Sequence[Line],
    level: tuple[str, float] | None = None,
    from_zero: bool = False,
    caption: str = "",
) -> Markup:
    """Curves over the steps; `level` is a dashed horizontal line with its name."""
    with rc_context(STYLE | {"svg.hashsalt": title}):
        picture, axes = _canvas()
        for line in lines:
            _draw(axes, line)
        if level is not None:
            axes.axhline(level[1], color=STAND_INS["muted"], linewidth=1.2, linestyle=(0, (4, 3)))
        if from_zero:
            axes.set_ylim(bottom=0)
        _label_steps(axes)
        content = _svg(picture, title)
    legend = [Key(line.label, line.colour) for line in lines]
    if level is not None:
        legend.append(Key(f"{level[0]} {level[1]:.4g}", "muted", dashed=True))
    return figure(content, title, legend, caption)


def curve_chart(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    legend: Sequence[Key] | None = None,
    caption: str = "",
) -> Markup:
    """Curves of one share in 0..1 over another.

    legend: by default one entry per line.
    """
    with rc_context(STYLE | {"svg.hashsalt": title}):
        picture = Figure(figsize=(WIDTH, 4.2), facecolor="none")
        axes = picture.add_axes((0.1, 0.105, 0.86, 0.865), facecolor="none")
        for line in lines:
            axes.plot(line.x, line.y, color=STAND_INS[line.colour], alpha=0.35 if line.smoothed else 1.0)
        axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel=x_label, ylabel=y_label)
        content = _svg(picture, title)
    return figure(
        content, title, [Key(line.label, line.colour) for line in lines] if legend is None else legend, caption
    )


def xy_chart(title: str, lines: Sequence[Line], x_label: str, y_label: str, caption: str = "") -> Markup:
    """Curves of any quantity over another, from zero on; dashed where a line is `smoothed`: an ideal, not a figure."""
    with rc_context(STYLE | {"svg.hashsalt": title}):
        picture = Figure(figsize=(WIDTH, 3.4), facecolor="none")
        axes = picture.add_axes((0.1, 0.15, 0.86, 0.8), facecolor="none")
        for line in lines:
            dashes = (0, (4, 3)) if line.smoothed else "-"
            marker = "o" if line.markers else None
            axes.plot(line.x, line.y, color=STAND_INS[line.colour], linestyle=dashes, marker=marker, markersize=4)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        content = _svg(picture, title)
    legend = [Key(line.label, line.colour, dashed=line.smoothed) for line in lines]
    return figure(content, title, legend, caption)


def share_chart(title: str, x: np.ndarray, share: np.ndarray, below: str, above: str) -> Markup:
    """Two shares that add up to one, stacked over the steps: `share` below, the rest above."""
    with rc_context(STYLE | {"svg.hashsalt": title}):
        picture, axes = _canvas()
        x, share = thin(x, share)
        x, share = np.insert(x, 0, 0.0), np.insert(share, 0, share[0])  # the first point speaks for the steps before it
        axes.fill_between(x, 0, share, color=STAND_INS["second"], alpha=0.85, linewidth=0)
        axes.fill_between(x, share, 1, color=STAND_INS["accent"], alpha=0.45, linewidth=0)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        _label_steps(axes)
        content = _svg(picture, title)
    return figure(content, title, [Key(below, "second"), Key(above, "accent")])


def reliability_chart(
    title: str, edges: np.ndarray, accuracy: np.ndarray, intervals: np.ndarray, counts: np.ndarray
) -> Markup:
    """Accuracy over confidence in bins, and how many samples each bin holds.

    edges: (bin + 1,); accuracy: (bin,), NaN for an empty bin; intervals: (bin, 2); counts: (bin,).
    """
    with rc_context(STYLE | {"svg.hashsalt": title}):
        picture = Figure(figsize=(WIDTH, 4.2), facecolor="none")
        top, bottom = picture.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        picture.subplots_adjust(left=0.1, right=0.96, top=0.975, bottom=0.1, hspace=0.12)
        centres, width = (edges[:-1] + edges[1:]) / 2, np.diff(edges) * 0.92
        filled = counts > 0
        top.bar(centres[filled], accuracy[filled], width[filled], color=STAND_INS["accent"], alpha=0.75)
        top.vlines(centres[filled], intervals[filled, 0], intervals[filled, 1], color=STAND_INS["ink"], linewidth=1.1)
        top.plot([0, 1], [0, 1], color=STAND_INS["muted"], linewidth=1.2, linestyle=(0, (4, 3)))
        top.set(xlim=(0, 1), ylim=(0, 1), ylabel=tell("accuracy"))
        bottom.bar(centres, counts, width, color=STAND_INS["muted"], alpha=0.5)
        bottom.set(xlabel=tell("confidence"), ylabel=tell("samples"))
        bottom.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        for axes in (top, bottom):
            axes.set_facecolor("none")
        content = _svg(picture, title)
    keys = [
        Key(tell("accuracy in the bin"), "accent"),
        Key(tell("95 % interval"), "ink"),
        Key(tell("perfect calibration"), "muted", dashed=True),
    ]
    return figure(content, title, keys)


def heat_map(title: str, values: np.ndarray, x_label: str, y_label: str, caption: str = "") -> Markup:
    """A matrix of shares in 0..1 as shades of the accent colour; rows from the top, one pixel per cell."""
    with rc_context(STYLE | {"svg.hashsalt": title, "axes.grid": False, "axes.spines.bottom": False}):
        picture = Figure(figsize=(5.0, 5.0), facecolor="none")
        axes = picture.subplots()
        picture.subplots_adjust(left=0.1, right=0.96, top=0.985, bottom=0.1)
        axes.set_facecolor("none")
        axes.imshow(np.sqrt(values), cmap=_shades(), vmin=0, vmax=1, interpolation="none")
        axes.set(xlabel=x_label, ylabel=y_label)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(8, integer=True))
        content = _svg(picture, title)
    return figure(content, title, caption=caption)


def thin(x: np.ndarray, y: np.ndarray, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Means of neighbouring points, so that at most `points` are left; NaN only where a whole group is NaN."""
    if len(x) <= points:
        return x, y
    group = np.arange(len(x)) * points // len(x)
    finite = np.isfinite(y)
    number = np.bincount(group, finite, points)
    total = np.bincount(group, np.where(finite, y, 0.0), points)
    mean = np.divide(total, number, out=np.full(points, np.nan), where=number > 0)
    return np.bincount(group, x, points) / np.bincount(group, minlength=points), mean


def running_mean(y: np.ndarray, width: int) -> np.ndarray:
    """Centred mean over `width` (odd) neighbours, over fewer at the ends; NaN values are left out."""
    window, finite = np.ones(width), np.isfinite(y)
    number = np.convolve(finite.astype(float), window, "full")
    total = np.convolve(np.where(finite, y, 0.0), window, "full")
    cut = slice(width // 2, width // 2 + len(y))
    mean: np.ndarray = np.divide(total[cut], number[cut], out=np.full(len(y), np.nan), where=number[cut] > 0)
    return mean


def _canvas() -> tuple[Figure, Axes]:
    picture = Figure(figsize=(WIDTH, HEIGHT), facecolor="none")
    axes = picture.add_axes((0.1, 0.155, 0.86, 0.805), facecolor="none")
    return picture, axes


def _draw(axes: Axes, line: Line) -> None:
    x, y = thin(line.x, line.y)
    colour = STAND_INS[line.colour]
    if line.smoothed and len(x) >= 10:
        axes.plot(x, y, color=colour, alpha=0.3, linewidth=1.0, clip_on=False)
        axes.plot(x, running_mean(y, len(x) // 20 * 2 + 3), color=colour, clip_on=False)
        return
    marked = line.markers and len(x) <= 60
    marker = "o" if marked or len(x) == 1 else None
    axes.plot(x, y, color=colour, marker=marker, markersize=3.5, clip_on=False)


def _label_steps(axes: Axes) -> None:
    axes.set_xlabel(tell("step"))
    axes.set_xlim(0, max(1.0, axes.dataLim.x1) if np.isfinite(axes.dataLim.x1) else 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: grouped(round(value))))
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _shades() -> ListedColormap:
    """From transparent to a blue that reads on light and dark."""
    colours = np.empty((256, 4))
    colours[:, :3] = to_rgb("#4f7cff")
    colours[:, 3] = np.linspace(0.0, 1.0, 256)
    return ListedColormap(colours)


def _svg(picture: Figure, title: str) -> Markup:
    """The figure's SVG element without what only a file of its own needs."""
    stream = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    picture.savefig(stream, format="svg", metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), text)  # coordinates, never labels
    text = text.replace("xlink:href", "href")
    view = re.search(r'viewBox="[^"]*"', text)
    assert view is not None
    head = f'<svg class="chart" {view[0]} role="img" aria-label="{escape(title)}">'
    text = head + text[text.index(">") + 1 :]
    for name, stand_in in STAND_INS.items():
        text = text.replace(stand_in, f"var(--{name})")
    return Markup(re.sub(r"\s*\n\s*", "\n", text))
