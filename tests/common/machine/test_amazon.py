"""A machine of Amazon's is known by its firmware, of both kinds, and no other is taken for one."""

import pytest

from common.machine.amazon import HYPERVISOR, VENDOR, on_amazon


@pytest.mark.parametrize(
    ("file", "content", "is_amazon"),
    [
        (VENDOR, b"Amazon EC2\n", True),
        (HYPERVISOR, b"ec2e1916-9099-7caf-fd21-012345abcdef\n", True),
        (HYPERVISOR, b"EC2E1916-9099-7CAF-FD21-012345ABCDEF\n", True),
        (VENDOR, b"Dell Inc.\n", False),
        (HYPERVISOR, b"45e12aec-dcd1-b213-94ed-012345abcdef\n", False),
        (VENDOR, b"\xff\xfe", False),
        ("elsewhere", b"Amazon EC2\n", False),
    ],
)
def test_by_the_firmware(tmp_path, file, content, is_amazon):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_bytes(content)
    assert on_amazon(tmp_path) == is_amazon
