import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from common.report.confusion import confusion_figures
from common.report.elements import (
    Markup,
    Section,
    bar,
    details,
    facts,
    folded_table,
    gallery,
    join,
    matrix,
    notice,
    paragraph,
    picture,
    table,
)
from common.report.history import History, foremost
from common.report.page import duration, write_report
from common.report.pictures import SIZE, jpeg_uri, thumbnail
from common.report.plots import Line, curve_chart, line_chart, running_mean, thin
from common.report.sections import describe_wait
from common.run import recipe as recipes
from common.run.recipe import Recipe, Target
from common.run.result import Baseline, Interval, Kit, Result
from common.run.run_directory import RunDirectory

TARGET = Target(
    metric="top1",
    value=0.95,
    source="https://example.org/paper, table 3",
    protocol="demo photographs, 400 validation images, centre crop",
)
VOID = {"meta", "link", "img", "br", "hr", "input", "path", "use", "image"}


class Page(HTMLParser):
    """Addresses a browser would load by itself, ids, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        values = {name: value or "" for name, value in attrs}
        self.tags.append((tag, values))
        self.ids += [values["id"]] if "id" in values else []
        if tag == "a":
            self.links.append(values["href"])
        else:
            self.loaded += [values[name] for name in ("src", "href", "srcset", "action", "data") if name in values]
        self.loaded += re.findall(r"url\(([^)]*)\)", values.get("style", "") + values.get("clip-path", ""))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.loaded += re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", data)
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def log_points(steps: int, wait: float = 0.38, log_every: int = 10) -> list[dict]:
    generator = np.random.default_rng(0)
    points = []
    for step in range(log_every, steps + 1, log_every):
        share = step / steps
        common = {"step": step, "epoch": 12 * share, "seconds": 210 * share}
        points.append(
            {"kind": "train"}
            | common
            | {"loss": 2.3 * math.exp(-3 * share) + 0.15 + 0.12 * generator.random()}
            | {"lr": 0.05 * (1 + math.cos(math.pi * share)), "gradient_norm": 1 + generator.random()}
            | {"samples_per_s": 41 + 6 * generator.random(), "data_wait": wait + 0.1 * generator.random() - 0.05}
        )
        if step % (25 * log_every) == 0 or step == steps:
            top1 = 0.965 - 0.8 * math.exp(-4 * share)
            points.append(
                {"kind": "validation"} | common | {"top1": top1, "top5": min(1.0, top1 + 0.1), "loss": 1.6 - 1.4 * top1}
            )
    return points


def write_log(run: RunDirectory, points: list[dict]) -> None:
    run.path.mkdir(parents=True, exist_ok=True)
    run.metrics_file.write_text("".join(json.dumps(point) + "\n" for point in points))


def make_run(path: Path, steps: int = 1500, wait: float = 0.38) -> RunDirectory:
    """A run directory as a finished training leaves it, but for its result."""
    run = RunDirectory(path)
    recipe = Recipe(summary="ResNet-18 on generated photographs: proves that the kit learns.", target=TARGET)
    description = {
        "model": "resnet50",
        "recipe": "demo",
        "command": "kit train resnet50/demo --data '/data/my photos' --training.seed 3",
        "overrides": ["--training.seed", "3"],
        "data": {"root": "/data/my photos", "images": 2000, "classes": [f"class {number}" for number in range(25)]},
        "created": "2026-01-02T03:00:00+00:00",
    }
    run.create(recipe, description)
    surroundings = {
        "kit": {"version": "0.1.0", "commit": "0123abcd", "dirty": True},
        "python": "3.12.3",
        "packages": {"torch": "2.13.0", "numpy": "2.4.6", "nvidia-dali-cuda130": "2.4.0"},
        "cpu": {"model": "Some Processor", "cores": 2, "features": ["avx512f", "amx_bf16"]},
        "memory_gb": 15.6,
        "gpus": [{"name": "NVIDIA H200", "memory_gb": 139.8, "driver": "580.65"}],
        "platform": "Linux-6.8-x86_64",
        "device": "cuda:0",
        "precision": "bf16",
        "world_size": 1,
    }
    run.environment_file.write_text(json.dumps(surroundings))
    write_log(run, log_points(steps, wait))
    return run


def make_result(**changes) -> Result:
    fields = {
        "model": "resnet50",
        "recipe": "demo",
        "metric": "top1",
        "value": 0.9625,
        "interval": Interval(0.93921, 0.97711, "wilson"),
        "target": TARGET,
        "verdict": "reached",
        "reason": "top1 0.9625 is 0.0125 above the target 0.9500.",
        "metrics": {"top1": 0.9625, "top5": 1.0, "loss": 0.17},
        "baselines": (Baseline("colour k-NN", 0.4), Baseline("majority", 0.1)),
        "steps": 1500,
        "epochs": 12.0,
        "wall_seconds": 211.0,
        "samples_per_s": 44.1,
        "sample_unit": "image",
        "created": "2026-01-02T03:04:05+00:00",
        "report": "report/index.html",
        "kit": Kit("0.1.0", "0123abcd"),
    }
    return Result(**(fields | changes))


def read_page(path: Path) -> tuple[Page, str]:
    text = path.read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert set(page.links) <= {f"#{name}" for name in page.ids} | {
        link for link in page.links if link.startswith("http")
    }
    for address in page.loaded:
        assert str(address).startswith(("data:", "#")), f"the page loads {address}"
    return page, text


def test_a_finished_run_shows_everything_in_one_file(tmp_path):
    run = make_run(tmp_path / "run")
    make_result().write(run.result_file)
    path = write_report(run, [Section("Confusion matrix", Markup("<p>bring <b>your</b> own</p>"))])
    assert path == run.report_file
    page, text = read_page(path)
    assert 'http-equiv="refresh"' not in text
    assert len(text) < 500_000
    for words in (
        "Target reached",
        "0.9625",
        "0.9392 to 0.9771 (wilson)",
        "The target lies inside the interval",
        "demo photographs, 400 validation images",
        "colour k-NN 0.4000, majority 0.1000",
        "3 min 31 s",
        "44.1 images/s",
        "The input pipeline limits this run: 38 % of the time was spent waiting for data.",
        "bring your own",
        "NVIDIA H200, 139.8 GB, driver 580.65",
        "with uncommitted changes",
        "kit train resnet50/demo --data '/data/my photos' --training.seed 3",
        "Data: images 2,000 Data: classes class 0, class 1,",
        "class 19, and 5 more",
    ):
        assert words in page.text, words
    assert "https://example.org/paper" in page.links
    order = ["curves", "throughput", "confusion-matrix", "environment", "reproduce"]
    assert [name for name in page.ids if name in order] == order
    assert text.count("<svg") == 6


@pytest.mark.parametrize("present", ["nothing", "metrics", "train only", "run", "all"])
def test_a_run_that_is_going_on_reloads_and_misses_nothing(present, tmp_path):
    run = RunDirectory(tmp_path / "run")
    if present in ("run", "all"):
        run = make_run(run.path, 500)
        if present == "run":
            run.metrics_file.unlink()
    elif present != "nothing":
        write_log(run, [point for point in log_points(500) if present == "metrics" or point["kind"] == "train"])
    page, text = read_page(write_report(run, []))
    assert '<meta http-equiv="refresh" content="20">' in text
    assert "Running" in page.text
    assert ("waiting for the first log point" in page.text) == (present in ("nothing", "run"))
    assert list(run.report_file.parent.iterdir()) == [run.report_file]


def test_a_run_half_way_says_how_long_it_takes(tmp_path):
    run = make_run(tmp_path)
    points = [point for point in log_points(1500) if point["step"] <= 750]
    write_log(run, [point | {"epoch": 90 * point["step"] / 1500} for point in points])
    page, _ = read_page(write_report(run))
    assert "50 %" in page.text
    assert "epoch 45.00 of 90" in page.text
    assert "1 min 45 s so far, about 1 min 45 s to go" in page.text
    assert "Latest validation top1 0.8567" in page.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"verdict": "missed", "value": 0.5}, "Target missed"),
        ({"verdict": "not-comparable", "target": None, "reason": "Nothing is published."}, "Nothing is published."),
        ({"interval": None, "baselines": (), "samples_per_s": None, "target": None}, "12 epochs, 3 min 31 s"),
        ({"value": math.nan, "metrics": {"top1": math.nan}, "verdict": "missed"}, "top1 nan"),
        ({"verdict": "missed", "value": 0.3}, "colour k-NN does better: 0.4000."),
    ],
)
def test_every_kind_of_result_has_a_card(changes, words, tmp_path):
    run = make_run(tmp_path, 100)
    make_result(**changes).write(run.result_file)
    assert words in read_page(write_report(run))[0].text


def test_what_a_user_named_is_escaped(tmp_path):
    run = make_run(tmp_path, 100)
    record = json.loads(run.run_file.read_text()) | {"command": "kit train <script>alert(1)</script>"}
    run.run_file.write_text(json.dumps(record))
    _, text = read_page(write_report(run, [Section("<b>", "<script>x</script>", anchor="bold")]))
    assert "<script" not in text


def policy_of(page: Page) -> dict[str, list[str]]:
    """Directive -> sources of the page's content security policy, which stands before all that could load."""
    place, (_, meta) = next(
        (place, each) for place, each in enumerate(page.tags) if each[1].get("http-equiv") == "Content-Security-Policy"
    )
    assert {tag for tag, _ in page.tags[:place]} == {"html", "head", "meta"}
    return {name: sources for name, *sources in (part.split() for part in meta["content"].split(";"))}


def test_the_page_may_load_and_run_nothing(tmp_path):
    """Holds for a page with hostile names in all that takes names: elements, attributes, charts."""
    name = "</script></svg><img src=x onerror=alert(1)>\"'onload=alert(1) x='"
    run = make_run(tmp_path, 200)
    run.serving_file.write_text(
        json.dumps(
            {
                "engine": name,
                "precision": "fp32",
                "sent": 1,
                "sent_unit": "image",
                "unit": name,
                "same": 1,
                "compared": 1,
                "p50_ms": 1.0,
                "start_seconds": 1.0,
                "examples": [{"asked": name, "answer": name}],
            }
        )
    )
    curve = np.arange(3.0)
    parts = [
        *(table((name,), [(name,)]), folded_table((name,), [(name,)] * 40), facts([(name, name)])),
        *(matrix([name], [[1]]), notice(name), details(name, name), paragraph(name)),
        gallery([(picture(jpeg_uri(Image.new("RGB", (8, 8))), name), name)]),
        *(line_chart(name, [Line(name, curve, curve)], level=(name, 1.0), caption=name),),
        curve_chart(name, [Line(name, curve / 2, curve / 2)], name, name, caption=name),
        confusion_figures([name, "b"], np.array([[1, 2], [0, 3]]), name, name, name),
        confusion_figures([name] * 20, np.ones((20, 20), int), name, name, name),
    ]
    page, text = read_page(write_report(run, [Section(name, join(parts))]))
    assert policy_of(page) == {
        "default-src": ["'none'"],
        "img-src": ["data:"],
        "style-src": ["'unsafe-inline'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    assert not {"script", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    assert not [attribute for _, values in page.tags for attribute in values if attribute.startswith("on")]
    assert all(values["src"].startswith("data:") for tag, values in page.tags if tag == "img")
    assert text.count("&lt;img src=x") > 20


def test_a_repeated_step_counts_as_it_last_was(tmp_path):
    run = RunDirectory(tmp_path)
    points = log_points(100)
    write_log(run, [*points[:7], *[point | {"loss": 9.0} for point in points[3:]]])
    with run.metrics_file.open("a") as stream:
        stream.write('{"kind": "train", "st')
    history = History.of(run.metrics())
    assert [point["step"] for point in history.train] == list(range(10, 101, 10))
    assert [point["loss"] == 9.0 for point in history.train] == [False] * 3 + [True] * 7
    assert "9 at step 100" in read_page(write_report(run))[0].text


def test_records_without_numbers_leave_gaps(tmp_path):
    run = RunDirectory(tmp_path)
    points = [{"kind": "train", "step": step, "epoch": 1, "seconds": 1, "loss": None, "lr": 0.1} for step in (10, 20)]
    write_log(run, points)
    page, _ = read_page(write_report(run))
    assert "Learning rate" in page.text
    assert "Throughput" not in page.text


def test_waiting_is_weighted_by_time():
    """100 steps at 10/s that wait for 80 %, then 100 steps at 90/s that do not wait: 10 of 11.1 time units."""
    points = [
        {"kind": "train", "step": 100, "samples_per_s": 10.0, "data_wait": 0.8},
        {"kind": "train", "step": 200, "samples_per_s": 90.0, "data_wait": 0.0},
    ]
    history = History.of(points)
    assert history.data_wait() == pytest.approx(0.8 * 0.9)
    assert history.samples_per_s() == pytest.approx(18.0)
    assert History.of([]).data_wait() is None


@pytest.mark.parametrize(
    ("wait", "words"), [(0.38, "limits this run: 38 %"), (0.15, "slows"), (0.02, "Compute limits")]
)
def test_waiting_in_words(wait, words):
    assert words in describe_wait(wait)


def test_thinning_keeps_the_mean_and_skips_gaps():
    x, y = np.arange(10_000.0), np.random.default_rng(0).normal(size=10_000)
    fewer_x, fewer_y = thin(x, y, 400)
    assert len(fewer_x) == len(fewer_y) == 400
    np.testing.assert_allclose(fewer_y, y.reshape(400, 25).mean(axis=1))
    np.testing.assert_allclose(fewer_x, x.reshape(400, 25).mean(axis=1))
    y[:25], y[30] = np.nan, np.nan
    fewer = thin(x, y, 400)[1]
    assert np.isnan(fewer[0])
    assert fewer[1] == pytest.approx(np.nanmean(y[25:50]))
    assert thin(x[:5], y[:5])[0] is not None


@pytest.mark.parametrize("width", [1, 3, 7, 25])
def test_running_mean_equals_the_slow_one(width):
    y = np.random.default_rng(0).normal(size=20)
    y[4] = np.nan
    half = width // 2
    windows = [y[max(0, place - half) : place + half + 1] for place in range(20)]
    expected = [np.nan if np.isnan(window).all() else np.nanmean(window) for window in windows]
    np.testing.assert_allclose(running_mean(y, width), expected)


def test_charts_use_the_pages_colours_only():
    chart = line_chart(
        "Loss & more", [Line("a", np.arange(50.0), np.arange(50.0), smoothed=True)], level=("target", 3.0)
    )
    assert not re.findall(r"#[0-9a-f]{6}", re.sub(r"#[a-z][0-9a-f]{10}", "", chart))
    assert "var(--accent)" in chart
    assert 'aria-label="Loss &amp; more"' in chart
    assert len(chart) < 20_000


def test_labels_keep_all_their_digits():
    values = np.array([0.0, 0.1])
    chart = line_chart("Learning rate", [Line("lr", np.array([0.0, 10.0]), values)], from_zero=True)
    assert ">0.025<" in chart
    assert ">0.075<" in chart


def test_the_log_of_a_long_run_stays_a_small_page(tmp_path):
    run = make_run(tmp_path, steps=200_000)
    text = write_report(run).read_text()
    assert len(text) < 500_000


def test_elements_escape_and_place():
    assert "&lt;b&gt;" in table(("<b>",), [("<i>",)])
    assert "&lt;i&gt;" in table(("<b>",), [("<i>",)])
    assert '<td class="number">' in table(("a",), [(1,)], numeric=(0,))
    assert "left:40.0%;right:20.0%" in bar(0.6, (0.4, 0.8))
    assert "width:100.0%" in bar(1.7)
    assert "&lt;" in notice("<")
    cells = matrix(["a", "b"], [[81, 19], [0, 0]])
    assert '<td class="right strong" style="--share:90.0%" title="81.0% of the row">81</td>' in cells
    assert Section("Worst mistakes, and more!", "").slug == "worst-mistakes-and-more"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3.14, "3.1 s"), (41, "41 s"), (211, "3 min 31 s"), (7500, "2 h 05 min"), (3599.7, "1 h 00 min")],
)
def test_durations_read_well(seconds, words):
    assert duration(seconds) == words


def decode(uri: str) -> Image.Image:
    import base64
    import io

    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_thumbnails_are_small_and_upright(tmp_path):
    pixels = np.zeros((300, 600, 3), np.uint8)
    pixels[:, :300] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: to be turned by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    uri = thumbnail(tmp_path / "a.jpg")
    assert uri is not None
    assert len(uri) < 6000
    picture = decode(uri)
    assert picture.size == (SIZE // 2, SIZE)
    assert picture.getpixel((40, 20))[0] > 200
    assert picture.getpixel((40, 140))[0] < 50


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_pictures_of_any_mode_can_be_embedded(mode):
    assert decode(jpeg_uri(Image.new(mode, (20, 10)))).size == (20, 10)


def test_a_picture_that_is_gone_or_damaged_has_no_thumbnail(tmp_path):
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    assert thumbnail(tmp_path / "b.jpg") is None
    assert thumbnail(tmp_path / "c.jpg") is None


def test_a_recipe_without_target_has_a_page(tmp_path):
    run = RunDirectory(tmp_path)
    run.recipe_file.write_text(recipes.to_json(Recipe(summary="bare")))
    assert "bare" in read_page(write_report(run))[0].text


def test_only_the_files_of_the_run_are_asked_for(tmp_path):
    """A stand-in with nothing but paths and log points is enough."""
    missing = tmp_path / "missing"
    stand_in = SimpleNamespace(
        path=tmp_path,
        metrics=list,
        test_evaluations=list,
        run_file=missing,
        recipe_file=missing,
        environment_file=missing,
        forecast_file=missing,
        result_file=missing,
        parity_file=missing,
        serving_file=missing,
        report_file=tmp_path / "report" / "index.html",
    )
    assert write_report(stand_in).is_file()


def test_the_metrics_beside_the_judged_one_are_those_that_are_most_like_it():
    names = [f"{kind}@{cut}/{name}" for name in ("full", "ncf-99") for kind in ("hr", "ndcg") for cut in (10, 50)]
    assert foremost(names, "hr@50/ncf-99") == ["hr@50/ncf-99", "ndcg@50/ncf-99", "hr@10/ncf-99"]
    assert foremost(names, None) == names[:3]
    assert foremost(["top1", "top5"], "top5") == ["top5", "top1"]
    assert foremost(["a", "b", "c", "d"], "d") == ["d", "a", "b", "c"]


def test_many_metrics_are_folded_and_none_is_lost(tmp_path):
    run = make_run(tmp_path)
    kinds, cutoffs, protocols = ("hr", "ndcg"), (10, 20, 50, 100), ("full", "uniform-100", "popularity-100")
    metrics = {f"{kind}@{cut}/{name}": 0.5 for name in protocols for kind in kinds for cut in cutoffs}
    write_log(run, [{"kind": "validation", "step": step, "epoch": 1.0, "seconds": 1.0} | metrics for step in (1, 2)])
    make_result(metric="ndcg@10/full", value=0.5, target=None, metrics=metrics).write(run.result_file)
    text = write_report(run).read_text()
    assert "<td>ndcg@10/full 0.5000, hr@10/full 0.5000, hr@20/full 0.5000<details>" in text
    shown, folded = text.split("Other metrics (21)")
    assert "Latest: ndcg@10/full 0.5000, hr@10/full 0.5000, hr@20/full 0.5000." in shown
    assert all(f"{name} 0.5000" in folded for name in metrics if name not in foremost(metrics, "ndcg@10/full"))
    assert len(re.findall("<svg", folded.split("</details>")[0])) == 6
