"""What linters and schemas say about the container files, and what no linter checks."""

import re
import shutil
import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pytest
import yaml

from challenges.parser import build_parser
from common.machine.environment import ROOT

CONTAINERS = ROOT / "containers"
DOCKERFILES = sorted(CONTAINERS.glob("*.Dockerfile"))
MANIFESTS = sorted((CONTAINERS / "kubernetes").glob("*.yaml"))
OBJECTS = [each for path in MANIFESTS for each in yaml.safe_load_all(path.read_text())]


def tool(name: str) -> str:
    """A command of this environment, else of the machine."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str) -> None:
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path):
    run(tool("hadolint"), str(path))


def test_compose_fits_its_specification():
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(CONTAINERS / "compose.yaml"))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_accepts_the_manifest(path):
    run(tool("kubernetes-validate"), "--strict", str(path))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_run_as_an_ordinary_user(path):
    users = re.findall(r"^USER (\S+)$", path.read_text(), re.MULTILINE)
    assert users[-1] == "1000:1000"


def test_nothing_replaces_nvidias_torch():
    """pip runs only through install.py, which pins everything that the image has."""
    for path in DOCKERFILES:
        assert "pip install" not in path.read_text()


def test_the_serving_image_is_healthy_only_when_it_infers():
    assert re.search(r"HEALTHCHECK.*\\\n.*ready\.py", (CONTAINERS / "serve.Dockerfile").read_text())


def test_the_recommenders_image_has_what_a_click_models_first_step_imports(tmp_path):
    """And no module of the kit beside that, so that other steps keep to the image's own stub."""
    lines = (CONTAINERS / "serve.Dockerfile").read_text().replace("\\\n", " ").splitlines()
    copies = [line.split()[1:] for line in lines if re.match(r"COPY (common|challenges)/", line)]
    for *sources, target in copies:
        for source in sources:
            assert Path(source).parent == Path(target)
            (tmp_path / target).mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, tmp_path / source)
    code = "import sys; import challenges.recommendation.clicks.answers, challenges.recommendation.clicks.transform; "
    code += "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] in ('common', 'challenges')))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    used = {str(Path(path).relative_to(tmp_path)) for path in answer.stdout.split()}
    assert used == {source for *sources, _ in copies for source in sources}


def test_services_are_hardened_and_listen_to_this_machine_only():
    compose = yaml.safe_load((CONTAINERS / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert all(port.startswith(("127.0.0.1:", "${BIND:-127.0.0.1}:")) for port in service.get("ports", [])), name
        assert service["mem_limit"] == service["memswap_limit"], name
        assert 0 < service["pids_limit"] <= 4096, name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
    assert {"serve", "front", "client", "metrics"} == set(compose["services"])


def test_services_talk_over_an_internal_network_and_none_reaches_the_internet():
    compose = yaml.safe_load((CONTAINERS / "compose.yaml").read_text())
    networks = compose["networks"]
    assert networks["serving"] == {"internal": True}
    for name, network in networks.items():
        options = (network or {}).get("driver_opts", {})
        assert network.get("internal") or options["com.docker.network.bridge.enable_ip_masquerade"] == "false", name
    for name, service in compose["services"].items():
        assert "serving" in service["networks"], name
        assert ("outside" in service["networks"]) == bool(service.get("ports")), name


def test_the_client_of_compose_asks_the_way_that_all_others_do():
    services = yaml.safe_load((CONTAINERS / "compose.yaml").read_text())["services"]
    client, front = services["client"], services["front"]
    verb, *asked = client["entrypoint"][1:]
    options = build_parser().parse_args([verb, *asked, "photo.jpg"])
    assert (options.protocol, options.url) == ("http", f"front:{front['environment']['FRONT_HTTP_LISTEN']}")
    assert client["environment"]["KIT_KEY"] == front["environment"]["KIT_KEY"]
    assert client["depends_on"] == {"front": {"condition": "service_healthy"}}


def test_nobody_may_talk_to_a_pod_that_no_policy_names():
    policies = [each["spec"] for each in OBJECTS if each["kind"] == "NetworkPolicy"]
    for each in OBJECTS:
        if each["kind"] in ("Deployment", "Job"):
            labels = each["spec"]["template"]["metadata"]["labels"]
            (policy,) = [one for one in policies if one["podSelector"]["matchLabels"].items() <= labels.items()]
            assert policy["policyTypes"] == ["Ingress", "Egress"]
            assert policy["egress"] == []
            assert policy["ingress"] == [] or each["kind"] == "Deployment"


def pods() -> list[dict]:
    return [each["spec"]["template"]["spec"] for each in OBJECTS if each["kind"] in ("Deployment", "Job")]


def test_pods_are_hardened():
    assert len(pods()) == 2
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
        storage = [container["resources"]["limits"].get("ephemeral-storage") for container in pod["containers"]]
        assert any(storage)


def test_every_mounted_volume_exists():
    for pod in pods():
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_serving_has_all_that_production_needs():
    kinds = {each["kind"]: each for each in OBJECTS if "serving" in each["metadata"]["name"]}
    assert {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"} <= set(kinds)
    assert kinds["HorizontalPodAutoscaler"]["apiVersion"] == "autoscaling/v2"
    labels = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        kinds["Service"]["spec"]["selector"],
        kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert "ready.py" in str(kinds["Deployment"]["spec"]["template"]["spec"]["containers"][0][probe])


def test_only_named_files_reach_the_builder():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    copied = {
        name.split("/")[0]
        for path in DOCKERFILES
        for line in re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", path.read_text(), re.MULTILINE)
        for name in line.split()
    }
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert copied <= allowed


def test_the_server_starts_with_the_same_locks_everywhere():
    """The container's start script and the local server close the same calls by the same key, which is no secret."""
    script = (CONTAINERS / "serve.sh").read_text()
    server = (ROOT / "common" / "serving" / "server.py").read_text()
    restricted = re.search(r'RESTRICTED = "([\w,-]+)"', server)[1]
    key = literal_eval(re.search(r"NEVER_SENT = (.*)", server)[1])
    assert f'restricted="{restricted}:{key}"' in script
    for option in ("--model-control-mode=none", "--disable-auto-complete-config", "--strict-readiness=true"):
        assert option in script
        assert option in server


def test_the_start_script_is_sound():
    run("sh", "-n", str(CONTAINERS / "serve.sh"))
    assert (CONTAINERS / "serve.sh").stat().st_mode & 0o111


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["container1"], "docker build -f containers/serve.Dockerfile -t challenge-kit/serve-classification:"),
        (["challenge1", "CONTAINER=1"], "--gpus all --shm-size 8g"),
        (["challenge1", "CONTAINER=1", "GPUS="], "--init  --shm-size"),
        (["challenge1", "CONTAINER=1", "ARGS=--training.epochs 2"], "kit challenge 'resnet50' --training.epochs 2"),
        (
            ["challenge1", "CONTAINER=1", "MEMORY=9g"],
            "--memory 9g --memory-swap 9g --pids-limit 4096 --log-opt max-size",
        ),
        (["challenge1", "CONTAINER=1"], "--read-only --tmpfs /tmp:exec,mode=1777 --cap-drop ALL"),
        (["challenge2", "CONTAINER=1"], "kit challenge 'ssd300'"),
        (["challenge3", "CONTAINER=1"], "kit challenge 'bert4rec'"),
        (
            ["benchmark", "CONTAINER=1", "MODEL=ncf dlrm", "GPUS=1,2"],
            "kit benchmark 'ncf' 'dlrm' --output=runs/benchmark/results --gpus=",
        ),
        (["benchmark", "CONTAINER=1", "GPUS=1,2"], "--init --gpus all --shm-size"),
        (["up1", "MODELS=/tmp"], "compose --env-file containers/versions.env -f containers/compose.yaml up"),
    ],
)
def test_make_runs_the_same_command_inside(arguments, expected):
    command = [tool("make"), "--dry-run", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert expected in answer.stdout
