"""Who worked and how it fared, told by recorded sessions of the driver's library."""

import os
import time

import pytest

from benchmarks.telemetry import Telemeter, _family
from benchmarks.worker import Cloud, cloud, short, worker_of
from tests.benchmarks.fake_nvml import Card, NVMLError, Session

FIRST, SECOND = "11111111-aaaa-bbbb-cccc-000000000001", "22222222-aaaa-bbbb-cccc-000000000002"
OURS = os.getpid()


def read(session, *, uuids=(FIRST,), seconds=0.08, name="compute_only"):
    with Telemeter(uuids, session, period=0.01) as telemeter:
        with telemeter.watch(name):
            time.sleep(seconds)
        found = telemeter.of(name)
    assert session.open == 0
    return found


def test_the_gpu_that_worked_is_found_by_its_uuid():
    """Under CUDA_VISIBLE_DEVICES=1 CUDA's first GPU is the driver's second."""
    session = Session(Card(f"GPU-{SECOND}", name="NVIDIA L4"), Card(f"GPU-{FIRST}", name="NVIDIA H200"))
    worker = worker_of([FIRST], session)
    (gpu,) = worker.gpus
    assert (gpu.name, gpu.uuid, gpu.capability, gpu.pcie, gpu.nvlinks) == (
        "NVIDIA H200",
        short(FIRST),
        "9.0",
        "5x16",
        18,
    )
    assert (gpu.power_limit_w, gpu.maximum_sm_mhz, gpu.maximum_memory_mhz, gpu.ecc) == (700.0, 1980, 3201, True)
    assert (gpu.mig, gpu.vgpu, worker.driver, worker.strays) == (None, False, "580.95.05", ())
    assert FIRST not in repr(worker)


def test_a_slice_is_told_with_its_own_memory_and_its_cards_clocks():
    card = Card(f"GPU-{SECOND}", clocks=[1410])
    piece = Card(
        f"MIG-{FIRST}", name="NVIDIA A100-SXM4-80GB MIG 1g.10gb", memory_gb=10.2, parent=card, clocks=[NVMLError("no")]
    )
    session = Session(card, piece)
    (gpu,) = worker_of([FIRST], session).gpus
    assert (gpu.mig, gpu.memory_gb) == ("1g.10gb", 10.2)
    assert read(session).sm_mhz == 1410


def test_a_vgpu_is_told():
    (gpu,) = worker_of([FIRST], Session(Card(f"GPU-{FIRST}", virtualization=2))).gpus
    assert gpu.vgpu


def test_a_gpu_that_the_driver_does_not_know_is_a_stray():
    worker = worker_of([FIRST], Session(Card(f"GPU-{SECOND}")))
    assert worker.gpus[0].name == "unknown"
    assert "no GPU of the UUID" in worker.strays[0]


def test_two_ranks_on_one_gpu_are_told():
    assert "several processes" in worker_of([FIRST, FIRST], Session(Card(f"GPU-{FIRST}"))).strays[0]


def test_a_cpu_has_no_gpus_and_no_telemetry():
    assert worker_of([]).gpus == ()
    with Telemeter([]) as telemeter, telemeter.watch("x"):
        pass
    assert telemeter.of("x") is None


def test_readings_are_taken_while_it_runs_and_summed_up():
    card = Card(f"GPU-{FIRST}", clocks=[1980, 1980, 990], reasons=[0x4, 0x4 | 0x40, 0], processes=[[OURS]])
    found = read(Session(card))
    assert found.readings >= 3
    assert (found.lowest_sm_mhz, found.temperature_c, found.memory_gb, found.other_processes) == (990, 61, 12.0, 0)
    assert found.energy_j == pytest.approx(500)
    assert found.throttled["power_cap"] == pytest.approx(2 / found.readings)
    assert found.throttled["hardware_thermal"] == pytest.approx(1 / found.readings)
    assert found.absent == {}


def test_blocks_of_one_name_add_up_and_others_stay_apart():
    session = Session(Card(f"GPU-{FIRST}"))
    with Telemeter([FIRST], session, period=0.01) as telemeter:
        for name in ("a", "b", "a"):
            with telemeter.watch(name):
                time.sleep(0.02)
        found = {name: telemeter.of(name).energy_j for name in ("a", "b")}
    assert found == {"a": pytest.approx(1000), "b": pytest.approx(500)}


def test_what_the_driver_refuses_is_null_with_its_reason():
    found = read(Session(Card(f"GPU-{FIRST}", energy=False, clocks=[NVMLError("Not Supported")])))
    assert (found.energy_j, found.sm_mhz) == (None, None)
    assert found.absent == {"energy_j": "Not Supported", "sm_mhz": "Not Supported"}


def test_without_a_driver_everything_is_null_with_its_reason():
    found = read(Session(starts=False))
    assert (found.readings, found.energy_j) == (0, None)
    assert set(found.absent.values()) == {"the driver's library does not load"}


@pytest.mark.parametrize(("processes", "others"), [([OURS, 1], 1), ([70001, 70002], 1), ([70001], 0), ([], 0)])
def test_processes_of_others_are_counted_also_where_a_container_renumbers(processes, others):
    assert read(Session(Card(f"GPU-{FIRST}", processes=[processes]))).other_processes == others


def test_the_command_that_started_the_ranks_is_one_of_ours(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    _family.cache_clear()
    assert read(Session(Card(f"GPU-{FIRST}", processes=[[OURS, os.getppid()]]))).other_processes == 0
    assert read(Session(Card(f"GPU-{FIRST}", processes=[[70001, 70002]]))).other_processes == 0
    assert read(Session(Card(f"GPU-{FIRST}", processes=[[70001, 70002, 70003]]))).other_processes == 1
    _family.cache_clear()


def test_the_cloud_is_asked_with_a_token(metadata):
    base, asked = metadata(
        {"instance-type": "g5.xlarge", "placement/region": "us-east-1", "instance-life-cycle": "spot"}
    )
    assert cloud(base) == Cloud(instance="g5.xlarge", region="us-east-1", lifecycle="spot")
    assert asked[0] == ("PUT", "/api/token", None)
    assert {token for _, _, token in asked[1:]} == {"secret"}


def test_what_is_no_cloud_is_null(metadata):
    base, _ = metadata({"instance-type": "<b>", "placement/region": "x", "instance-life-cycle": "x"})
    assert cloud(base) is None
    started = time.perf_counter()
    assert cloud("http://127.0.0.1:9") is None
    assert time.perf_counter() - started < 1.0


@pytest.fixture
def metadata():
    """A server that answers as the instance metadata service does: gives its address, and what it was asked."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    servers = []

    def start(answers):
        asked = []

        class Handler(BaseHTTPRequestHandler):
            def _answer(self):
                asked.append((self.command, self.path, self.headers.get("X-aws-ec2-metadata-token")))
                text = "secret" if self.command == "PUT" else answers[self.path.removeprefix("/meta-data/")]
                self.send_response(200)
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_PUT = _answer  # noqa: N815  # http.server's names

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
