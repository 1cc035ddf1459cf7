"""A stand-in for NVIDIA's base images: Debian with Python, and packages that are there by name only.

Tagged with the NGC names it lets unmodified Dockerfiles be built where no registry is reachable.
"""

import re
import shutil
import subprocess
from pathlib import Path

from common.files import cache_folder

INCLUDE = "ca-certificates,python3,python3-pip,python3-venv"
TOOLS = ("buildah", "crun", "debootstrap")
SITE = "usr/lib/python3/dist-packages"


def missing_tools() -> list[str]:
    return [tool for tool in TOOLS if shutil.which(tool) is None and not Path("/usr/sbin", tool).exists()]


def root_filesystem() -> Path:
    """Debian's minimal system, made once and kept in the kit's cache (90 s, 300 MB)."""
    folder = cache_folder() / "stand-in" / "bookworm"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = ["debootstrap", "--variant=minbase", f"--include={INCLUDE}", "bookworm", str(folder), *_mirror()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (folder / "complete").touch()
    return folder


class Builder:
    """buildah with a store of its own under `folder`; images are looked for nowhere else."""

    def __init__(self, folder: Path) -> None:
        places = ["--root", str(folder / "store"), "--runroot", str(folder / "run")]
        self._command = ["buildah", *places, "--storage-driver", "overlay"]

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        answer = subprocess.run([*self._command, *arguments], capture_output=True, text=True)
        if check and answer.returncode:
            raise AssertionError(f"buildah {arguments[0]} failed:\n{answer.stdout[-3000:]}\n{answer.stderr[-3000:]}")
        return answer

    def make_base(self, image: str, packages: dict[str, str]) -> None:
        """Tag the stand-in as `image`; packages: name and version of those it shall seem to have."""
        container = self.run("from", "scratch").stdout.strip()
        self.run("add", "--quiet", container, str(root_filesystem()), "/")
        for name, version in packages.items():
            folder = f"/{SITE}/{name.replace('-', '_')}-{version}.dist-info"
            metadata = f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"
            script = f"mkdir -p {folder} && printf '{metadata}' > {folder}/METADATA && printf x > {folder}/INSTALLER"
            self.run("run", "--isolation", "chroot", container, "--", "sh", "-c", script)
        self.run("commit", "--quiet", container, image)
        self.run("rm", container)

    def build(self, dockerfile: str, tag: str, context: Path, **arguments: str) -> None:
        given = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
        certificates = ["--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"]  # where a private authority signs the index
        options = ["--isolation", "chroot", "--pull-never", "--format", "docker", *certificates, *given]
        self.run("bud", *options, "--tag", tag, "--file", str(context / dockerfile), str(context))

    def inside(self, image: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a new container of `image`, as the image's user."""
        container = self.run("from", "--pull-never", image).stdout.strip()
        try:
            return self.run("run", "--isolation", "chroot", container, "--", *command, check=False)
        finally:
            self.run("rm", container)

    def settings(self, image: str) -> str:
        return self.run("inspect", "--type", "image", image).stdout

    def clean(self) -> None:
        self.run("rm", "--all", check=False)
        self.run("rmi", "--all", "--force", check=False)


def _mirror() -> list[str]:
    """This machine's own Debian mirror, where one is configured."""
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *folder.glob("sources.list.d/*.sources"), *folder.glob("sources.list.d/*.list")]
    text = "\n".join(file.read_text() for file in files if file.is_file())
    return re.findall(r"^(?:URIs:|deb)\s+(?:\[[^]]*\]\s+)?(https?://\S*/debian/?)(?:\s|$)", text, re.MULTILINE)[:1]
