"""A run on several machines is the same line whoever starts it, in files that those who read them would take."""

import copy
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from challenges.parser import build_parser
from common.machine.environment import ROOT
from tests.containers.test_lint import CONTAINERS, run, tool

SCRIPTS = sorted((*CONTAINERS.glob("*.sh"), *(ROOT / "benchmarks").glob("*.sh"), ROOT / ".ci" / "run"))
SKYPILOT = yaml.safe_load((CONTAINERS / "skypilot.yaml").read_text())
KUBEFLOW = {each["kind"]: each for each in yaml.safe_load_all((CONTAINERS / "kubeflow.yaml").read_text())}
(NODE,) = KUBEFLOW["TrainingRuntime"]["spec"]["template"]["spec"]["replicatedJobs"]
POD = NODE["template"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
STARTS = {
    "skypilot.yaml": SKYPILOT["run"], "slurm.sh": (CONTAINERS / "slurm.sh").read_text(),
    "kubeflow.yaml": CONTAINER["command"][2],
}  # fmt: skip


def test_a_run_is_one_line_whoever_starts_it():
    lines = {name: " ".join(text.partition("\ninside \\\n")[2].split()) for name, text in STARTS.items()}
    assert len(set(lines.values())) == 1, lines
    flags, kit = lines["slurm.sh"].replace("\\ ", "").split(" -m -- challenges ")
    assert flags.startswith("torchrun --nnodes ")
    options, _ = build_parser().parse_known_args([kit.split()[0], "resnet50/imagenet-90e", "--data", "/data"])
    assert (options.recipe, options.data) == ("resnet50/imagenet-90e", "/data")


@pytest.mark.parametrize("name", STARTS)
def test_every_name_of_the_line_is_given_a_value(name):
    used = set(re.findall(r"\$\{?([A-Z]+)", STARTS[name].partition("\ninside \\\n")[2]))
    assert used == {"NODES", "RANK", "GPUS", "MAIN", "MODEL", "RECIPE", "DATA"}
    given = set(re.findall(r"\b([A-Z]+)=", STARTS[name])) | set(SKYPILOT["envs"] if name == "skypilot.yaml" else ())
    if name == "kubeflow.yaml":
        given |= {each["name"] for each in KUBEFLOW["TrainJob"]["spec"]["trainer"]["env"]}
    assert used <= given


def shellcheck(text: str, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([tool("shellcheck"), *options, "-"], input=text, capture_output=True, text=True)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck_finds_nothing_in_the_scripts(path: Path):
    answer = shellcheck(path.read_text())
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("text", [SKYPILOT["setup"], SKYPILOT["run"], CONTAINER["command"][2]])
def test_shellcheck_finds_nothing_in_what_manifests_start(text):
    answer = shellcheck(text, "--shell=bash", "--exclude=SC2154,SC2153")  # variables come from outside
    assert answer.returncode == 0, answer.stdout


def test_shellcheck_finds_a_fault():
    assert "SC2086" in shellcheck("#!/bin/sh\nrm $1\n").stdout


TASK = {
    "envs", "event_callback", "file_mounts", "inputs", "managed_secrets", "name", "num_nodes", "outputs", "pool",
    "resources", "run", "secrets", "service", "setup", "workdir",
}  # fmt: skip
RESOURCES = {
    "accelerator_args", "accelerators", "cloud", "cpus", "disk_size", "disk_tier", "image_id", "infra", "instance_type",
    "job_recovery", "labels", "memory", "network_tier", "ports", "use_spot", "volumes", "zone",
}  # fmt: skip
STORAGE = {"config", "mode", "name", "persistent", "source", "store", "type"}
"""Names that SkyPilot 0.14.1 takes of a task, its resources and its storage (sky/utils/schemas.py)."""


def refused_by_skypilot(task: dict) -> set[str]:
    """Names, and types where they matter, that are none of SkyPilot's."""
    found = (set(task) - TASK) | (set(task["resources"]) - RESOURCES)
    for mount in task["file_mounts"].values():
        found |= set(mount) - STORAGE
        found |= {mount["mode"]} - {"MOUNT", "COPY", "MOUNT_CACHED"} if "mode" in mount else set()
    found |= {name for name in ("setup", "run", "workdir", "name") if not isinstance(task.get(name, ""), str)}
    return found | ({"num_nodes"} if not isinstance(task.get("num_nodes", 1), int) else set())


def test_skypilot_knows_every_name():
    assert refused_by_skypilot(SKYPILOT) == set()


@pytest.mark.parametrize(
    ("place", "name"), [((), "num_node"), (("resources",), "accelerator"), (("file_mounts", "/runs"), "modes")]
)
def test_a_name_that_skypilot_does_not_know_is_found(place, name):
    task = copy.deepcopy(SKYPILOT)
    inner = task
    for part in place:
        inner = inner[part]
    inner[name] = 1
    assert refused_by_skypilot(task) == {name}


def test_skypilots_bucket_is_ones_own_and_takes_appends():
    (mount,) = SKYPILOT["file_mounts"].values()
    assert mount == {"name": "${BUCKET}", "mode": "MOUNT_CACHED"}
    assert SKYPILOT["envs"]["BUCKET"] is None  # which SkyPilot asks for
    assert "image_id" not in SKYPILOT["resources"]  # its docker mode installs itself into the image


TRAIN_JOB = {"activeDeadlineSeconds", "initializer", "managedBy", "runtimePatches", "runtimeRef", "suspend", "trainer"}
TRAINER = {"args", "command", "env", "image", "numNodes", "numProcPerNode", "resourcesPerNode"}
RUNTIME = {"mlPolicy", "podGroupPolicy", "template"}
JOB_SET = {
    "coordinator", "failurePolicy", "managedBy", "network", "replicatedJobs", "startupPolicy", "successPolicy",
    "suspend", "ttlSecondsAfterFinished", "volumeClaimPolicies",
}  # fmt: skip
"""Names of Kubeflow Trainer 2.1 to 2.3's TrainJob and TrainingRuntime, and of the JobSet inside (their CRDs)."""


def test_kubeflow_knows_every_name():
    job, runtime = KUBEFLOW["TrainJob"], KUBEFLOW["TrainingRuntime"]
    assert job["apiVersion"] == runtime["apiVersion"] == "trainer.kubeflow.org/v1alpha1"
    assert set(job["spec"]) <= TRAIN_JOB
    assert set(job["spec"]["trainer"]) <= TRAINER
    assert set(runtime["spec"]) <= RUNTIME
    assert runtime["spec"]["mlPolicy"]["torch"] == {}  # without it no PET_ variable is set
    assert set(runtime["spec"]["template"]["spec"]) <= JOB_SET
    reference = job["spec"]["runtimeRef"]
    assert reference == {
        "apiGroup": "trainer.kubeflow.org",
        "kind": "TrainingRuntime",
        "name": runtime["metadata"]["name"],
    }


def test_kubeflow_finds_the_pod_that_trains():
    """By the replicated job's and the container's name, and by a label of the job."""
    assert (NODE["name"], CONTAINER["name"]) == ("node", "node")
    assert NODE["template"]["metadata"]["labels"] == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}


def test_kubernetes_accepts_what_kubeflow_makes_of_it(tmp_path):
    """The job inside the runtime, and what stands beside it, each as strictly as Kubernetes can."""
    job = {"apiVersion": "batch/v1", "kind": "Job", **NODE["template"]}
    job["metadata"] = {"name": "node", **job["metadata"]}
    path = tmp_path / "objects.yaml"
    path.write_text(yaml.safe_dump_all([job, KUBEFLOW["PersistentVolumeClaim"], KUBEFLOW["NetworkPolicy"]]))
    run(tool("kubernetes-validate"), "--strict", str(path))
    misspelt = copy.deepcopy(job)
    misspelt["spec"]["template"]["spec"]["containers"][0]["imagePullPolicies"] = "Always"
    path.write_text(yaml.safe_dump(misspelt))
    with pytest.raises(AssertionError, match="imagePullPolicies"):
        run(tool("kubernetes-validate"), "--strict", str(path))


def test_its_pods_are_hardened_and_talk_to_each_other_only():
    policy = KUBEFLOW["NetworkPolicy"]["spec"]
    own = [{"podSelector": {"matchLabels": POD["metadata"]["labels"]}}]
    assert policy["podSelector"]["matchLabels"] == POD["metadata"]["labels"]
    assert policy["ingress"] == [{"from": own}]
    assert policy["egress"][0] == {"to": own}
    assert {port["port"] for port in policy["egress"][1]["ports"]} == {53}
    assert POD["spec"]["securityContext"]["runAsNonRoot"]
    assert POD["spec"]["automountServiceAccountToken"] is False
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {each["name"] for each in POD["spec"]["volumes"]}
    assert KUBEFLOW["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
