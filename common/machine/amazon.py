"""Whether this machine is one of Amazon's, told by what its firmware says: no question leaves the machine."""

from pathlib import Path

SYSTEM = Path("/sys")
VENDOR, HYPERVISOR = "class/dmi/id/sys_vendor", "hypervisor/uuid"
"""What Linux tells of a machine of Nitro, and of an older one of Xen."""


def on_amazon(system: Path = SYSTEM) -> bool:
    """Also inside a container of such a machine.

    system: where Linux describes the machine; absent or unreadable elsewhere.
    """
    return _read(system / VENDOR) == "amazon ec2" or _read(system / HYPERVISOR).startswith("ec2")


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip().lower()
    except OSError:
        return ""
