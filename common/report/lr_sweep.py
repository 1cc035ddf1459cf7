"""The learning-rate finder's curve as a picture of its own."""

import io

from matplotlib.figure import Figure

from common.training.lr_finder import Sweep


def draw_sweep(sweep: Sweep) -> bytes:
    """Loss over the learning rate, the suggestion marked: the bytes of a PNG file."""
    picture = Figure(figsize=(7, 4), layout="constrained")
    axes = picture.add_subplot()
    axes.plot(sweep.rates, sweep.losses)
    axes.axvline(sweep.suggestion, linestyle="--", color="tab:orange", label=f"steepest fall: {sweep.suggestion:.2g}")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("smoothed loss")
    axes.legend()
    stream = io.BytesIO()
    picture.savefig(stream, format="png", dpi=150)
    return stream.getvalue()
