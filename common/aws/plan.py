"""What is to run, and what it would take and cost, for people to agree to."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from common.machine.prices import Price
from common.storage import s3

QUOTAS = {
    ("G", False): "L-DB2E81BA", ("G", True): "L-3819A6DF", ("P", False): "L-417A185B", ("P", True): "L-7212CCBC",
    ("P5", True): "L-C4BD4855",
}  # fmt: skip
"""vCPU quotas by family and spot; those of P on demand count P5 and P6 in, spot P5 has one of its own."""
WITHIN_REGION, FROM_HOME = 500e6, 2.5e6  # bytes per second: S3 to an instance; a home line's 20 Mbit/s
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to run, and within which bounds.

    target: of make, such as challenge1; variables are make's, such as RECIPE.
    epochs: of the data; rates: samples/s by instance that records tell, speeds: published ones by GPU; empty where
            nothing is known.
    told_hours: that a benchmark, or a training by minutes, is given; measures: whether it is a benchmark.
    max_usd, max_hours: whichever comes first ends the run.
    """

    target: str
    instances: tuple[str, ...]
    data: str = ""
    variables: tuple[tuple[str, str], ...] = ()
    spot: bool = False
    max_usd: float = 10.0
    max_hours: float = 6.0
    capacity_block: str = ""
    given_name: str = ""
    disk_gb: int = 200
    epochs: float = 0.0
    rates: Mapping[str, float] = field(default_factory=dict)
    speeds: Mapping[str, float] = field(default_factory=dict)
    told_hours: float = 0.0
    measures: bool = False

    @property
    def name(self) -> str:
        """The run's: the one given, else of what runs on what, so that the same command finds its run again.

        A training may go on on another instance; a benchmark is one of its own there.
        """
        facts = json.dumps([self.target, self.data, self.variables, *(self.instances if self.measures else ())])
        return self.given_name or f"{self.target}-{hashlib.sha256(facts.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Machine:
    """One type of instance that the run may get; quota: vCPUs that the account may have of it, None where unknown."""

    price: Price
    vcpus: int
    nvme_gb: int
    usd_spot: float | None
    zones: frozenset[str]
    quota: float | None


@dataclass(frozen=True)
class Plan:
    """An order with all that was looked up for it; block_hours: that a Capacity Block has left, endless without one."""

    order: Order
    account: str
    region: str
    machines: tuple[Machine, ...]
    listing: s3.Listing | None
    local_bytes: int
    image: str
    root_device: str
    subnets: tuple[str, ...]
    vpc: str
    expected_hours: float
    block_hours: float
    notes: tuple[str, ...]

    @property
    def bucket(self) -> str:
        return f"kit-{self.account}-{self.region}"

    @property
    def usd_per_hour(self) -> float:
        """At most: a spot instance never costs more than the same on demand, and a Capacity Block is paid already."""
        return 0.0 if self.order.capacity_block else max(machine.price.usd_per_hour for machine in self.machines)

    @property
    def hours(self) -> float:
        """After so many all ends."""
        usd = self.usd_per_hour
        return min(self.order.max_hours, self.order.max_usd / usd if usd else self.block_hours)

    @property
    def data_bytes(self) -> int:
        return self.listing.bytes if self.listing else self.local_bytes


def rows(plan: Plan) -> Iterable[tuple[str, str]]:
    """The plan for people: what, and how much."""
    order, hour = plan.order, f"${plan.usd_per_hour:.3f}/h" if plan.usd_per_hour else "no price: the block is paid"
    yield "account", f"{plan.account} in {plan.region}"
    yield "run", f"{order.name}: make {order.target}"
    for machine in plan.machines:
        price, spot = machine.price, f"spot now ${machine.usd_spot:.3f}/h" if machine.usd_spot is not None else ""
        per_gpu = f"{machine.vcpus // max(price.num_gpus, 1)} cores each"
        disk = f"{machine.nvme_gb} GB NVMe" if machine.nvme_gb else "no NVMe"
        facts = [f"{price.num_gpus} x {price.gpu}", per_gpu, disk, f"${price.usd_per_hour:.3f}/h ({price.date})", spot]
        yield price.instance, ", ".join(filter(None, facts))
        if machine.quota is not None:
            link = quota_link(plan.region, quota_code(price.instance, order.spot))
            yield "quota", f"{machine.vcpus} of {machine.quota:g} vCPUs, raised at {link}"
    if order.data:
        speed = WITHIN_REGION if plan.listing else FROM_HOME
        minutes = math.ceil(plan.data_bytes / speed / 60)
        how = "from S3" if plan.listing else "uploaded from here at 20 Mbit/s"
        yield "data", f"{order.data}: {plan.data_bytes / 1e9:,.2f} GB, some {minutes} min {how}"
    less = " or less, as spot instances cost" if order.spot else ""
    yield "expected", f"{plan.expected_hours:.1f} h, ${plan.expected_hours * plan.usd_per_hour:.2f}{less}"
    bounds = f"MAX_HOURS={order.max_hours:g} and MAX_USD={order.max_usd:g} at {hour}"
    yield "ends at the latest", f"after {plan.hours:.1f} h: {bounds}"
    made = ["launch template", "Auto Scaling group of 0 or 1", "role and instance profile"]
    yield "is made", f"bucket {plan.bucket}, security group kit; kit-{order.name}: {', '.join(made)}"
    yield "comes back", f"to runs/aws-{order.name}/" + (", records for make compare" if order.measures else "")
    for note in plan.notes:
        yield "note", note


def quota_code(instance: str, spot: bool) -> str:
    """Of the vCPUs that instances of this family may have together."""
    family = "P5" if spot and instance.startswith("p5") else instance[0].upper()
    return QUOTAS.get((family, spot), QUOTAS["G", spot])


def quota_link(region: str, code: str) -> str:
    return f"https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas/{code}?region={region}"
