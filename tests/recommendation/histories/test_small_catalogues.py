"""A small catalogue has no hundred best items: its result is about a metric that it has."""

import json
import random

import pytest

from challenges.__main__ import main
from challenges.recommendation.histories.ranking import nearest_metric

FULL = ["hr@10/full", "hr@20/full", "ndcg@10/full", "ndcg@20/full", "mrr/full"]


@pytest.mark.parametrize(
    ("wanted", "reported", "nearest"),
    [
        ("ndcg@20/full", FULL, "ndcg@20/full"),
        ("ndcg@100/full", FULL, "ndcg@20/full"),
        ("hr@10/ncf-99", FULL, "hr@10/full"),
        ("hr@5/uniform-100", [*FULL, "hr@10/uniform-100", "mrr/uniform-100"], "hr@10/uniform-100"),
        ("hr@10/uniform-100", [*FULL, "mrr/uniform-100"], "mrr/uniform-100"),
        ("hr@10/full", ["recall@10/full", "recall@20/full", "ndcg@10/full", "mrr/full"], "recall@10/full"),
        ("ndcg@10/full", ["mrr/full"], "mrr/full"),
        ("loss", ["mrr/full"], "mrr/full"),
    ],
)
def test_the_nearest_metric(wanted, reported, nearest):
    assert nearest_metric(wanted, reported) == nearest


@pytest.mark.parametrize(
    ("recipe", "items", "metric"),
    [
        ("vae_cf/own", 60, "ndcg@50/full"),
        ("ncf/ml-1m-8", 60, "hr@10/full"),
        ("bert4rec/demo", 5, "mrr/full"),
    ],
)
def test_a_result_is_about_a_metric_that_there_is(recipe, items, metric, tmp_path, monkeypatch):
    monkeypatch.setenv("CHALLENGE_KIT_CACHE", str(tmp_path / "cache"))
    draw = random.Random(0)
    rows = [f"{user},{item}" for user in range(40) for item in draw.sample(range(items), min(items - 1, 6))]
    (tmp_path / "x.csv").write_text("\n".join(["user,item", *rows]) + "\n")
    run = str(tmp_path / "run")
    held_out = ["--history.held-out-users", "5"] if recipe.startswith("vae") else []
    data = ["--data", str(tmp_path / "x.csv"), "--run", run, "--device", "cpu"]
    assert main(["train", recipe, *data, "--training.epochs", "1", *held_out]) == 0
    assert main(["evaluate", run, "--device", "cpu"]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["metric"], result["verdict"]) == (metric, "not-comparable")
    assert result["value"] == result["metrics"][metric]
    assert main(["report", run]) == 0
