"""What is measured in how many minutes, published rows as something to run, and what is refused at once."""

import pytest

from benchmarks import published
from benchmarks.plan import Item, plan_of, rank_counts
from challenges.__main__ import main
from challenges.registry import MODELS
from common.errors import KitError

ROWS = published.rows()
ALL = tuple(MODELS)


def test_all_models_fit_into_a_quarter_of_an_hour():
    made = plan_of(ALL, (1,), 15, quick=False, on_gpu=True)
    assert [item.model for item in made.items if item.what == "train"] == list(ALL)
    assert made.least(made.items) <= 15 * 60
    quick = plan_of(ALL, (1, 2), 15, quick=True, on_gpu=False)
    assert {str(item) for item in quick.items} >= {f"{model} train" for model in ALL} | {
        "ncf ranks ×2",
        "ncf precision",
    }


def test_time_that_one_does_not_use_goes_to_the_others():
    made = plan_of(("ncf", "dlrm"), (1,), 15, quick=False, on_gpu=False)
    first, *others = made.items
    given = made.share(first, made.items, made.seconds)
    as_planned = made.share(others[0], others, made.seconds - given)
    early = made.share(others[0], others, made.seconds - given / 3)
    assert early > as_planned >= 20
    assert given > made.share(first, made.items, made.seconds / 2)


def test_an_export_is_measured_where_there_is_one_and_batches_are_doubled_on_a_gpu_only():
    made = plan_of(("ncf", "dlrm"), (1,), 15, quick=False, on_gpu=False, exported=["dlrm"])
    assert Item("dlrm", "engines") in made.items
    assert not [item for item in made.items if item.what == "batch" or (item.model, item.what) == ("ncf", "engines")]
    assert Item("ncf", "batch") in plan_of(("ncf",), (1,), 15, quick=False, on_gpu=True).items


def test_too_few_minutes_are_refused_with_what_fits():
    with pytest.raises(KitError, match=r"MINUTES is 3, and the plan needs 9\.\d") as told:
        plan_of(ALL, (1,), 3, quick=False, on_gpu=False)
    assert "2 models fit" in str(told.value) or "MODEL=" in str(told.value)
    with pytest.raises(KitError, match="Give more minutes"):
        plan_of(ALL, (1,), 0.5, quick=False, on_gpu=False)


@pytest.mark.parametrize(("given", "available", "expected"), [
    (None, 8, (1, 2, 4, 8)), (None, 6, (1, 2, 4)), ("2", 2, (1, 2)), ("1,2,4", 4, (1, 2, 4)), ("", 1, (1,)),
])  # fmt: skip
def test_counts_of_gpus(given, available, expected):
    assert rank_counts(given, available) == expected


@pytest.mark.parametrize("given", ["4", "0", "two", "1,,2", "-1", "1;2"])
def test_counts_that_are_none_or_too_many_are_refused(given):
    with pytest.raises(KitError, match="GPUS is") as told:
        rank_counts(given, 2)
    assert "1 to 2" in str(told.value)
    assert told.value.exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["resnet5"], "Did you mean resnet50"),
        (["--gpus", "64"], "GPUS is '64'"),
        (["--minutes", "0.1"], "MINUTES is 0.1, and the plan needs"),
        (["--minutes", "-1"], "MINUTES is -1"),
        (["--like", "lambda/resnet50-h20"], "Did you mean lambda/resnet50-h200"),
        (["--like", "bert4rec"], "See benchmarks/published.csv"),
        (["--data", "no-such-folder"], "no-such-folder does not exist"),
        (["--data", "."], "Name the model"),
        (["--prices", "no.csv"], "no.csv cannot be read"),
        (["ncf", "--recipe", "dem"], "ncf/demo"),
    ],
)
def test_bad_input_is_refused_before_a_second_of_measuring(arguments, told, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.benchmark.probe", lambda *_: pytest.fail("something was measured"))
    assert main(["benchmark", "--device", "cpu", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_prices_without_a_date_are_refused_by_the_command(tmp_path, capsys):
    header = "instance,gpu,num_gpus,gpu_memory_gb,vcpus,usd_per_hour_on_demand,region,os,date,source"
    (tmp_path / "prices.csv").write_text(f"{header}\ng5.xlarge,A10G,1,24,4,1.0,us-east-1,Linux,,me\n")
    assert main(["benchmark", "--device", "cpu", "--prices", str(tmp_path / "prices.csv")]) == 2
    assert "line 2 has no date" in capsys.readouterr().err


def test_every_published_row_has_an_identifier_of_its_own():
    names = [row.identifier for row in ROWS]
    assert len(set(names)) == len(names) >= 72
    assert all(published.find(name, ROWS).identifier == name for name in names)


@pytest.mark.parametrize(
    ("given", "value"),
    [("dle/resnet50-a100-amp", 2470), ("lambda/resnet50-h200", 3079), ("DLE/resnet50-a100-amp-x8", 16621),
     ("mlperf/resnet50-offline-l4", 12881.7), ("timm/resnet50-train", None), ("lambda/ncf-h100", 70240500)],
)  # fmt: skip
def test_a_part_of_an_identifier_is_enough_where_the_rest_is_clear(given, value):
    if value is None:
        with pytest.raises(KitError):
            published.find(given, ROWS)
    else:
        assert published.find(given, ROWS).value == value


def test_every_row_with_a_known_protocol_can_be_run_and_all_others_say_why_not():
    runs = 0
    for row in ROWS:
        if why := published.why_not(row):
            with pytest.raises(KitError, match="cannot be followed") as told:
                published.protocol_of(row)
            assert why in str(told.value)
            continue
        protocol = published.protocol_of(row)
        model, _, recipe = protocol.recipe.partition("/")
        assert recipe in MODELS[model].recipes()
        assert protocol.overrides("fp32")
        assert protocol.ranks * (protocol.batch or 1) <= (row.batch or protocol.ranks)
        runs += 1
    assert runs >= 45


def test_the_protocol_of_lambdas_h200_is_made_up_inputs_in_nchw():
    protocol = published.protocol_of(published.find("lambda/resnet50-h200", ROWS))
    assert (protocol.recipe, protocol.precision, protocol.synthetic, protocol.channels_last) == (
        "resnet50/imagenet-90e", "fp16", True, False,
    )  # fmt: skip
    assert "--training.no-channels-last" in protocol.overrides("fp16")
    assert "its batch" in protocol.unknown
    h100 = published.protocol_of(published.find("lambda/resnet50-h100-x8", ROWS))
    assert (h100.batch, h100.ranks, h100.channels_last) == (1280, 8, False)


def test_a_batch_that_is_of_each_gpu_stays_that():
    row = published.find("dle/ncf-a100-amp-x8", ROWS)
    assert (row.batch, published.protocol_of(row).batch) == (8 * 131072, 131072)


def test_compiled_rows_are_compiled_and_layouts_are_as_printed():
    protocols = {row.identifier: published.protocol_of(row) for row in ROWS if row.identifier.startswith("timm/")}
    assert sum(protocol.compile for protocol in protocols.values()) == 1
    assert {protocol.channels_last for protocol in protocols.values()} == {True, False}


def test_what_differs_is_named():
    row = published.find("lambda/resnet50-h200", ROWS)
    protocol = published.protocol_of(row)
    here = published.differences(row, protocol, gpu=None, ranks=1, precision="fp32", data="")
    assert "a CPU instead of H200-SXM-140GB" in here
    assert "fp32 instead of fp16" in here
    there = published.differences(row, protocol, gpu="NVIDIA H200", ranks=1, precision="fp16", data="")
    assert not [told for told in there if "instead of" in told]
    assert [told for told in there if told.startswith("its batch")]
    a10g = published.find("lambda/resnet50-a10", ROWS)
    told = published.differences(
        a10g, published.protocol_of(a10g), gpu="NVIDIA A10G", ranks=1, precision="fp16", data="x"
    )
    assert "NVIDIA A10G instead of A10 (Lambda cloud)" in told
