"""Records: what is written is read back, nothing is overwritten, nothing private gets in, and nonsense is refused."""

import dataclasses
import getpass
import json
import socket
from pathlib import Path

import pytest

from benchmarks.measure import Ratio
from benchmarks.probe import Probe
from benchmarks.record import (
    RESULTS,
    SCHEMA_FILE,
    Evidence,
    Like,
    Ranks,
    RecordError,
    device_slug,
    file_name,
    read,
    read_all,
    split_of,
    without_paths,
    write,
)
from benchmarks.record import Record as RecordClass
from benchmarks.telemetry import Telemetry
from benchmarks.validity import judge
from benchmarks.work import Utilisation, Work
from benchmarks.worker import Cloud, Gpu, Worker
from common.machine.environment import collect_environment
from tests.benchmarks.builders import ENVIRONMENT, GPU, WORKLOAD, record, windows


def test_what_is_written_is_read_back(tmp_path):
    original = record(123.0)
    again = read(write(original, tmp_path))
    assert again == original


def test_a_comparison_is_read_back(tmp_path):
    original = record(kind="comparison", ratio=1.8)
    assert read(write(original, tmp_path)).ratios == original.ratios


def test_a_split_is_read_back(tmp_path):
    split = split_of(windows(500.0), windows(100.0), windows(98.0), Ratio(median=0.98, interval=(0.96, 0.99), pairs=5))
    original = dataclasses.replace(record(), split=split)
    assert read(write(original, tmp_path)).split == split


def test_the_bottleneck_is_the_slower_part():
    overlap = Ratio(median=0.9, interval=(0.8, 1.0), pairs=5)
    assert split_of(windows(500.0), windows(100.0), windows(98.0), overlap).bottleneck == "compute"
    assert split_of(windows(50.0), windows(100.0), windows(48.0), overlap).bottleneck == "data"
    assert split_of(windows(95.0), windows(100.0), windows(60.0), overlap).bottleneck == "balanced"


def test_a_record_is_never_overwritten(tmp_path):
    original = record()
    path = write(original, tmp_path)
    before = path.read_bytes()
    with pytest.raises(RecordError, match="never overwritten"):
        write(dataclasses.replace(original, details={"peak_memory_gb": 1.0}), tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_named_after_what_it_holds():
    made = dataclasses.replace(record(), id="00c0ffee")
    assert file_name(made) == "2026-11-20_classification_train_cpu-amd-epyc-9b45-2c_bf16_00c0ffee.json"


def test_results_lie_in_a_folder_per_device(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.record.RESULTS", tmp_path)
    assert write(record()).parent == tmp_path / "cpu-amd-epyc-9b45-2c"


@pytest.mark.parametrize(
    ("system", "slug"),
    [
        ({"gpus": [GPU], "device": "cuda:0", "world_size": 1}, "nvidia-h200"),
        ({"gpus": [GPU] * 8, "device": "cuda:0", "world_size": 8}, "nvidia-h200-x8"),
        (
            {"gpus": [GPU], "device": "cpu", "cpu": {"model": "Intel(R) Xeon(R) CPU @ 2.70GHz", "cores": 4}},
            "cpu-intel-xeon-4c",
        ),
    ],
)
def test_a_device_is_named_in_a_folders_words(system, slug):
    assert device_slug(system) == slug


def test_the_schema_lists_every_field_and_no_other():
    schema = json.loads(SCHEMA_FILE.read_text())
    assert set(schema["properties"]) == {field.name for field in dataclasses.fields(RecordClass)}
    workload = schema["$defs"]["workload"]["properties"]
    assert set(workload) == {field.name for field in dataclasses.fields(WORKLOAD)}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"kind": "guess"}, "kind"),
        ({"measurements": {}}, "measurements"),
        ({"id": "xyz"}, "id"),
        ({"details": {"gpu": "H200"}}, "details"),
        ({"created": "yesterday"}, "created"),
    ],
)
def test_nonsense_is_refused_and_named(tmp_path, change, where):
    with pytest.raises(RecordError, match=where):
        write(dataclasses.replace(record(), **change), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_invalid_record_must_say_why(tmp_path):
    validity = dataclasses.replace(record().validity, valid=False)
    with pytest.raises(RecordError, match="reasons"):
        write(dataclasses.replace(record(), validity=validity), tmp_path)


def test_a_comparison_without_a_ratio_is_refused(tmp_path):
    with pytest.raises(RecordError):
        write(record(kind="comparison"), tmp_path)


def test_a_file_that_is_no_record_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(RecordError, match=r"a\.json"):
        read_all([tmp_path])
    with pytest.raises(RecordError, match="does not exist"):
        read_all([tmp_path / "absent"])


def test_no_host_user_or_path_gets_into_a_record(tmp_path):
    data = Path.home() / "secret-folder" / "photos"
    command = ["python", "-m", "benchmarks.peers.classification", f"--data={data}", str(data), "--workers", "2"]
    environment = collect_environment(device="cpu", precision="bf16", world_size=1)
    made = dataclasses.replace(record(environment=environment), command=without_paths(command))
    text = write(made, tmp_path).read_text()
    assert "secret-folder" not in text
    assert f'"{socket.gethostname()}"' not in text
    assert f"/{getpass.getuser()}/" not in text
    assert made.command == "python -m benchmarks.peers.classification --data=photos photos --workers 2"


def test_relative_paths_in_a_command_stay():
    assert without_paths(["x", "../shared/data", "a/b", "--ratio=1/2"]) == "x ../shared/data a/b --ratio=1/2"


def codes(findings) -> list[str]:
    return [finding.code for finding in findings]


def test_a_quiet_long_steady_measurement_is_valid():
    assert judge({"train": windows()}, environment=ENVIRONMENT, data="real").valid


@pytest.mark.parametrize(
    ("measured", "code"),
    [
        (windows(seconds=0.1), "TOO_SHORT"),
        (windows(count=1, seconds=12.0), "TOO_SHORT"),
        (windows(spread=0.2), "UNSTEADY"),
        (dataclasses.replace(windows(), busy_share=0.4), "BUSY_MACHINE"),
        (
            dataclasses.replace(windows(), warmup=dataclasses.replace(windows().warmup, seconds=60.0)),
            "WARMUP_GE_STEPS",
        ),
    ],
)
def test_each_flaw_of_a_measurement_has_its_code(measured, code):
    validity = judge({"train": measured}, environment=ENVIRONMENT, data="real")
    assert not validity.valid
    assert code in codes(validity.reasons)


def test_a_comparison_is_judged_by_its_ratio():
    noisy = {"ours": dataclasses.replace(windows(spread=0.2), busy_share=0.5), "peer": windows(spread=0.2)}
    tight = {"ours/peer": Ratio(median=2.0, interval=(1.95, 2.05), pairs=9)}
    validity = judge(noisy, environment=ENVIRONMENT, data="real", ratios=tight)
    assert validity.valid
    assert codes(validity.warnings) == ["BUSY_MACHINE"]
    loose = {"ours/peer": Ratio(median=2.0, interval=(1.5, 2.5), pairs=9)}
    assert codes(judge(noisy, environment=ENVIRONMENT, data="real", ratios=loose).reasons) == ["UNSTEADY"]


def test_a_cpu_beside_an_idle_gpu_is_no_result():
    validity = judge({"train": windows()}, environment=ENVIRONMENT | {"gpus": [GPU]}, data="real")
    assert codes(validity.reasons) == ["CPU_FALLBACK"]
    on_gpu = ENVIRONMENT | {"gpus": [GPU], "device": "cuda:0"}
    assert judge({"train": windows()}, environment=on_gpu, data="real").valid


def test_losses_that_are_no_numbers_make_a_record_invalid():
    validity = judge({"train": windows()}, environment=ENVIRONMENT, data="real", losses_finite=False)
    assert codes(validity.reasons) == ["LOSS_NOT_FINITE"]


def test_changed_files_and_made_up_data_are_told():
    dirty = ENVIRONMENT | {"kit": ENVIRONMENT["kit"] | {"dirty": True}}
    validity = judge({"train": windows()}, environment=dirty, data="synthetic")
    assert validity.valid
    assert codes(validity.warnings) == ["DIRTY_TREE", "SYNTHETIC_DATA"]


FIRST_RECORDS = sorted(file for file in RESULTS.rglob("*.json") if '"kit.bench/1"' in file.read_text())


@pytest.mark.parametrize("file", FIRST_RECORDS, ids=lambda file: file.stem[-8:])
def test_a_record_of_the_first_version_is_read_and_its_file_stays(file):
    before = file.read_bytes()
    found = read(file)
    assert found.schema == "kit.bench/2"
    assert found.evidence == Evidence()
    assert found.device == file.parent.name
    assert file.read_bytes() == before
    again = json.loads(json.dumps(dataclasses.asdict(found)))
    first = json.loads(before)
    assert {name: value for name, value in again.items() if name in first and name != "schema"} == {
        name: value for name, value in first.items() if name != "schema"
    }


def test_a_record_of_an_unknown_version_is_refused_in_three_parts(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"schema": "kit.bench/9"}))
    with pytest.raises(RecordError) as told:
        read(tmp_path / "a.json")
    assert "kit.bench/9" in str(told.value)
    assert "kit.bench/1 and kit.bench/2 are read" in str(told.value)
    assert told.value.exit_code == 2


def test_the_gpu_that_worked_names_the_folder(tmp_path):
    """Of a machine's list of GPUs the first need not be the one that CUDA worked on."""
    environment = ENVIRONMENT | {"gpus": [GPU, GPU | {"name": "NVIDIA L4"}], "device": "cuda:0"}
    worker = Worker(gpus=(Gpu(name="NVIDIA L4", uuid="0123456789ab"),))
    made = dataclasses.replace(record(environment=environment), evidence=Evidence(worker=worker))
    assert made.device == "nvidia-l4"
    assert read(write(made, tmp_path)).evidence == made.evidence


def test_all_evidence_is_read_back(tmp_path):
    telemetry = Telemetry(gpus=("0123456789ab",), readings=3, throttled={"power_cap": 0.5}, absent={"energy_j": "no"})
    full = Evidence(
        worker=Worker(cloud=Cloud(instance="g5.xlarge", region="us-east-1", lifecycle="spot"), strays=("odd",)),
        probe=Probe(
            matmul_tflops={"fp32": 1.5}, copy_gb_s=20.0, host_to_device_gb_s=None, launch_us=2.0, jpeg_per_s_core=400.0,
            jpeg_kilobytes=76.0, cores=2, read_gb_s=None, cache_bytes=1, busy_share=0.1, all_reduce_gb_s=3.0, ranks=2,
        ),
        telemetry={"compute_only": telemetry},
        work=Work(flop_per_sample=2.0, bytes_per_sample=4.0, least_bytes_per_sample=3.0, step_bytes=12.0, operators=7,
                  synchronisations=0, allocations=5),
        utilisation=Utilisation(tflops=1.0, gb_s=2.0, mfu=0.5, peak_source="a data sheet"),
        ranks=Ranks(size=2, scaling="weak", alone="00c0ffee", alone_samples_per_s=5.0, together_samples_per_s=9.0,
                    efficiency=0.9),
        like=Like(row="dle/resnet50-a100-amp", differences=("another GPU",)),
    )  # fmt: skip
    original = dataclasses.replace(record(), evidence=full)
    assert read(write(original, tmp_path)) == original
