"""What install.py asks for, keeps and refuses; nothing is installed here."""

import pytest

from containers import install

PROJECT = {
    "dependencies": ["torch>=2.11", "NumPy>=2.0", "nvidia-dali-cuda130>=2.2; platform_system == 'Linux'", "rich>=14"],
    "optional-dependencies": {"serve": ["onnx>=1.20"], "quantize": ["lief"], "dev": ["pytest"]},
}


def test_what_the_image_brings_is_never_asked_for():
    assert install.requirements(PROJECT) == ["NumPy>=2.0", "rich>=14", "onnx>=1.20", "lief"]


def test_only_missing_packages_are_asked_for_and_old_ones_are_told(capsys):
    have = {"numpy": "1.26.4", "rich": "14.1"}
    assert install.missing(install.requirements(PROJECT), have) == ["onnx>=1.20", "lief"]
    assert capsys.readouterr().out == "KEPT NumPy 1.26.4 of the image; the kit asks for >=2.0\n"


def test_everything_but_build_tools_is_pinned():
    pins = install.pins({"torch": "2.13.0a0+9186a08b2c.nv26.07", "setuptools": "70"})
    assert pins == ["torch==2.13.0a0+9186a08b2c.nv26.07"]


def test_the_lock_file_counts_for_what_the_image_lacks(tmp_path):
    lock = tmp_path / "constraints.txt"
    lock.write_text("# made by pip\n--index-url x\ntorch==2.13.0\nrich==14.0.0  # terminal\n\n")
    assert install.locked(lock, {"torch": "2.13.0a0"}) == ["rich==14.0.0"]
    assert install.locked(tmp_path / "absent", {}) == []


def test_a_changed_package_of_the_image_is_an_error():
    before = {"torch": "2.13.0a0", "setuptools": "66", "challenge-kit": "0.1"}
    install.refuse_changes(before, {**before, "setuptools": "80", "challenge-kit": "0.2", "rich": "14"})
    with pytest.raises(SystemExit, match="torch"):
        install.refuse_changes(before, {**before, "torch": "2.13.0"})
    with pytest.raises(SystemExit, match="torch"):
        install.refuse_changes(before, {"setuptools": "66"})


@pytest.mark.parametrize("line", ["ruamel.yaml>=1", "Ruamel_YAML[x]==2 ; python_version > '3'", "ruamel-yaml"])
def test_names_are_normalised(line):
    assert install.name_of(line) == "ruamel-yaml"
