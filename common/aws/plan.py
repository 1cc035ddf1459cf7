"""What a run would take and cost, looked up before anything is made; whatever speaks against it is refused here."""

import datetime
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import DataError, KitError
from common.machine.prices import Price, PriceTable
from common.storage import s3
from common.storage.cloud import Cloud, unless_denied

IMAGE = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
"""The public parameter that names the newest Deep Learning Base AMI: driver, Docker, NVIDIA's toolkit, AWS CLI."""
OLD = {"V100": "7.0", "P100": "6.0", "M60": "5.2", "K80": "3.7", "K520": "3.0"}
"""GPUs of AWS below compute capability 7.5, the least that CUDA 13 runs on."""
NEWER = "Choose g4dn, g5, g6, g6e, p4d or newer: docs/aws.md compares them."
QUOTAS = {
    ("G", False): "L-DB2E81BA", ("G", True): "L-3819A6DF", ("P", False): "L-417A185B", ("P", True): "L-7212CCBC",
    ("P5", True): "L-C4BD4855",
}  # fmt: skip
"""vCPU quotas by family and spot; those of P on demand count P5 and P6 in, spot P5 has one of its own."""
OVERHEAD_HOURS = 0.3  # the machine's start, NVIDIA's image of some 10 GB, the last uploads
WITHIN_REGION, FROM_HOME = 500e6, 2.5e6  # bytes per second: S3 to an instance; a home line's 20 Mbit/s
EGRESS_USD_PER_GB = 0.02  # from one region to another, aws.amazon.com/s3/pricing
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to run, and within which bounds.

    target:    of make, such as challenge1; variables are make's, such as RECIPE.
    pace:      (samples' passes, samples/s by GPU) that records promise, or None where there is none.
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
    speeds: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The run's: the one given, else of what runs on what, so that the same command finds its run again."""
        facts = json.dumps([self.target, self.data, self.variables])
        return self.given_name or f"{self.target}-{hashlib.sha256(facts.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Machine:
    """One type of instance that the run may get."""

    price: Price
    vcpus: int
    nvme_gb: int
    usd_spot: float | None
    zones: frozenset[str]


@dataclass(frozen=True)
class Plan:
    """An order with all that was looked up for it."""

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
    notes: tuple[str, ...]

    @property
    def bucket(self) -> str:
        return f"kit-{self.account}-{self.region}"

    @property
    def usd_per_hour(self) -> float:
        """At most: a spot instance never costs more than the same on demand."""
        return max(machine.price.usd_per_hour for machine in self.machines)

    @property
    def hours(self) -> float:
        """After so many all ends."""
        return min(self.order.max_hours, self.order.max_usd / self.usd_per_hour)

    @property
    def data_bytes(self) -> int:
        return self.listing.bytes if self.listing else self.local_bytes


def make_plan(cloud: Cloud, order: Order, table: PriceTable, today: datetime.date) -> Plan:
    """Look up what an order takes. Asks only; raises KitError for whatever would make it fail or cost too much."""
    _require_sound(order)
    prices = [table.of(instance) for instance in order.instances]
    account, notes = cloud.account, [table.warning(today)]
    machines = tuple(_machine(cloud, price, order, notes) for price in prices)
    for machine in machines:
        _require_quota(cloud, machine, order, notes)
        if machine.price.region != cloud.region:
            notes.append(f"the price of {machine.price.instance} is that of {machine.price.region}")
    listing, local_bytes, samples = _data(cloud, order)
    image, root_device = _image(cloud)
    vpc, subnets = _network(cloud, frozenset().union(*(machine.zones for machine in machines)))
    expected = _expected_hours(order, machines, samples, listing.bytes if listing else local_bytes)
    plan = Plan(
        order, account, cloud.region, machines, listing, local_bytes, image, root_device, subnets, vpc, expected,
        tuple(filter(None, notes)),
    )  # fmt: skip
    _require_within_bounds(plan)
    _require_permissions(cloud, plan)
    return plan


def rows(plan: Plan) -> Iterable[tuple[str, str]]:
    """The plan for people: what, and how much."""
    order = plan.order
    yield "account", f"{plan.account} in {plan.region}"
    yield "run", f"{order.name}: make {order.target}"
    for machine in plan.machines:
        price, spot = machine.price, f"spot now ${machine.usd_spot:.3f}/h" if machine.usd_spot is not None else ""
        per_gpu = f"{machine.vcpus // max(price.num_gpus, 1)} cores each"
        disk = f"{machine.nvme_gb} GB NVMe" if machine.nvme_gb else "no NVMe"
        facts = [f"{price.num_gpus} x {price.gpu}", per_gpu, disk, f"${price.usd_per_hour:.3f}/h ({price.date})", spot]
        yield price.instance, ", ".join(filter(None, facts))
    if order.data:
        speed = WITHIN_REGION if plan.listing else FROM_HOME
        minutes = math.ceil(plan.data_bytes / speed / 60)
        how = "from S3" if plan.listing else "uploaded from here at 20 Mbit/s"
        yield "data", f"{order.data}: {plan.data_bytes / 1e9:,.2f} GB, some {minutes} min {how}"
    yield "expected", f"{plan.expected_hours:.1f} h, ${plan.expected_hours * plan.usd_per_hour:.2f} or less"
    bounds = f"MAX_HOURS={order.max_hours:g} and MAX_USD={order.max_usd:g} at ${plan.usd_per_hour:.3f}/h"
    yield "ends at the latest", f"after {plan.hours:.1f} h: {bounds}"
    made = ["launch template", "Auto Scaling group of 0 or 1", "role and instance profile"]
    yield "is made", f"bucket {plan.bucket}, security group kit; kit-{order.name}: {', '.join(made)}"
    for note in plan.notes:
        yield "note", note


def _require_sound(order: Order) -> None:
    if not NAME.fullmatch(order.name):
        raise KitError(
            f"A run cannot be called {order.name!r}.", "Names have up to 40 small letters, digits and inner hyphens.",
            "Pass another --name.",
        )  # fmt: skip
    if not order.instances:
        raise KitError(
            "No INSTANCE was given.", "It is what the run costs.", "Try INSTANCE=g6e.xlarge; see: kit aws prices"
        )
    if order.capacity_block and (order.spot or len(order.instances) != 1):
        raise KitError(
            "A Capacity Block was given together with spot or several instances.",
            "A block is paid for beforehand and has one type of instance.", "Leave out SPOT, and name one INSTANCE.",
        )  # fmt: skip


def _machine(cloud: Cloud, price: Price, order: Order, notes: list[str]) -> Machine:
    name = price.instance
    _require_new(price, [price.gpu])
    answer = cloud.ask("ec2", "describe_instance_types", InstanceTypes=[name], absent=("InvalidInstanceType",))
    found = answer.get("InstanceTypes", [])
    asked: dict[str, Any] = {
        "LocationType": "availability-zone",
        "Filters": [{"Name": "instance-type", "Values": [name]}],
    }
    offers = cloud.listed("ec2", "describe_instance_type_offerings", "InstanceTypeOfferings", **asked)
    zones = frozenset(row["Location"] for row in offers)
    if not found or not zones:
        raise KitError(
            f"{name} is offered in no zone of {cloud.region}.", "Types of instances differ from region to region.",
            "Choose another --instance or --region.",
        )  # fmt: skip
    facts: Mapping[str, Any] = found[0]
    _require_gpu(price, facts)
    spot = None
    if order.spot:
        with unless_denied(notes, f"today's spot price of {name}"):
            spot = _spot_price(cloud, name)
    nvme_gb = facts.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0)
    return Machine(price, facts["VCpuInfo"]["DefaultVCpus"], nvme_gb, spot, zones)


def _require_gpu(price: Price, facts: Mapping[str, Any]) -> None:
    gpus = facts.get("GpuInfo", {}).get("Gpus", [])
    _require_new(price, [str(gpu.get("Name", "")) for gpu in gpus])
    if not any(gpu.get("Manufacturer") == "NVIDIA" for gpu in gpus) or price.num_gpus < 1:
        raise KitError(f"{price.instance} has no whole GPU of NVIDIA's.", "The training image needs one.", NEWER)
    if "x86_64" not in facts["ProcessorInfo"]["SupportedArchitectures"]:
        raise KitError(f"{price.instance} has ARM processors.", "The AMI that is used is for x86-64.", NEWER)


def _require_new(price: Price, names: Iterable[str]) -> None:
    old = next((gpu for gpu in OLD for name in names if gpu in name.split()), None)
    if old:
        raise KitError(
            f"{price.instance} has {old}s, of compute capability {OLD[old]}: too old for the training image.",
            "CUDA 13 runs on 7.5 (T4) and newer.", NEWER,
        )  # fmt: skip


def _spot_price(cloud: Cloud, instance: str) -> float | None:
    now, system = datetime.datetime.now(datetime.UTC), ["Linux/UNIX"]
    asked: dict[str, Any] = {"InstanceTypes": [instance], "StartTime": now, "ProductDescriptions": system}
    answer = cloud.ask("ec2", "describe_spot_price_history", **asked)
    return min((float(row["SpotPrice"]) for row in answer["SpotPriceHistory"]), default=None)


def quota_code(instance: str, spot: bool) -> str:
    """Of the vCPUs that instances of this family may have together."""
    family = "P5" if spot and instance.startswith("p5") else instance[0].upper()
    return QUOTAS.get((family, spot), QUOTAS["G", spot])


def _require_quota(cloud: Cloud, machine: Machine, order: Order, notes: list[str]) -> None:
    code = quota_code(machine.price.instance, order.spot)
    if order.capacity_block:
        return  # a block is capacity that is paid for
    answer: Mapping[str, Any] = {}
    with unless_denied(notes, "the vCPU quota"):
        unknown = ("NoSuchResourceException",)
        answer = cloud.ask("service-quotas", "get_service_quota", ServiceCode="ec2", QuotaCode=code, absent=unknown)
    if not answer:
        notes.append(f"the vCPU quota {code} is not known here: a launch may still meet it")
        return
    allowed = answer["Quota"]["Value"]
    if allowed < machine.vcpus:
        console = f"https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas/{code}?region={cloud.region}"
        raise KitError(
            f"{machine.price.instance} has {machine.vcpus} vCPUs, and this account may have {allowed:g} "
            f"({answer['Quota'].get('QuotaName', code)}).",
            "AWS sets a new account's quota of GPU instances to 0; raising it is free and takes hours to days.",
            f"Ask for {machine.vcpus} or more: {console}",
        )  # fmt: skip


def _data(cloud: Cloud, order: Order) -> tuple[s3.Listing | None, int, int]:
    """What lies in S3, the bytes of a folder of this machine, and how many files there are."""
    if not order.data:
        return None, 0, 0
    if not s3.is_address(order.data):
        path = Path(order.data)
        files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
        if not path.exists() or not files:
            told = "is empty" if path.exists() else "is missing"
            raise DataError(f"{path} {told}.", "DATA is a folder, a file or s3://BUCKET/PREFIX.", "Check the path.")
        return None, sum(each.stat().st_size for each in files), len(files)
    listing = s3.find(cloud, order.data)
    if listing.region != cloud.region:
        cost = listing.bytes / 1e9 * EGRESS_USD_PER_GB
        raise DataError(
            f"{order.data} lies in {listing.region}, and the run would be in {cloud.region}.",
            f"AWS takes ${EGRESS_USD_PER_GB:.2f} a GB between regions: ${cost:.2f} for every instance that starts.",
            f"Pass --region {listing.region}, or copy it once: aws s3 sync {order.data} s3://A-BUCKET-IN-{cloud.region}",
        )  # fmt: skip
    return listing, 0, len(listing.objects)


def _image(cloud: Cloud) -> tuple[str, str]:
    image = str(cloud.ask("ssm", "get_parameter", Name=IMAGE)["Parameter"]["Value"])
    found = cloud.ask("ec2", "describe_images", ImageIds=[image])["Images"]
    return image, str(found[0]["RootDeviceName"])


def _network(cloud: Cloud, zones: frozenset[str]) -> tuple[str, tuple[str, ...]]:
    default = [{"Name": "default-for-az", "Values": ["true"]}]
    subnets = [row for row in cloud.listed("ec2", "describe_subnets", "Subnets", Filters=default)
               if row["AvailabilityZone"] in zones]  # fmt: skip
    if not subnets:
        raise KitError(
            f"The account has no default network in {', '.join(sorted(zones))}.",
            "Instances start in the subnets of the default VPC; nothing from outside reaches them.",
            "Make it: aws ec2 create-default-vpc",
        )
    return str(subnets[0]["VpcId"]), tuple(sorted(row["SubnetId"] for row in subnets))


def _expected_hours(order: Order, machines: Iterable[Machine], samples: int, size: int) -> float:
    """From published speeds of the slowest machine, where there are any; else what every run takes before it learns."""
    waiting = OVERHEAD_HOURS + size / WITHIN_REGION / 3600
    speeds = [order.speeds.get(machine.price.gpu, 0.0) * machine.price.num_gpus for machine in machines]
    slowest = min(speeds, default=0.0)
    return waiting + (samples * order.epochs / slowest / 3600 if slowest else 0.0)


def _require_within_bounds(plan: Plan) -> None:
    expected, order = plan.expected_hours, plan.order
    usd = expected * plan.usd_per_hour
    if usd > order.max_usd:
        raise KitError(
            f"MAX_USD={order.max_usd:g} is less than what the run is expected to cost: ${usd:.2f}.",
            f"It takes some {expected:.1f} h at ${plan.usd_per_hour:.3f}/h.",
            f"Raise MAX_USD to {math.ceil(usd * 1.5)}, choose a cheaper INSTANCE, or fewer epochs.",
        )  # fmt: skip
    if expected > order.max_hours:
        raise KitError(
            f"MAX_HOURS={order.max_hours:g} is less than what the run is expected to take: {expected:.1f} h.",
            "A run ends by then, whatever it does.", "Raise MAX_HOURS, choose a faster INSTANCE, or fewer epochs.",
        )  # fmt: skip


def _require_permissions(cloud: Cloud, plan: Plan) -> None:
    """Ask EC2 whether it would: the answer to a dry run is an error that says yes."""
    first = plan.machines[0].price.instance
    yes = ("DryRunOperation",)
    data = {"ImageId": plan.image}
    cloud.ask(
        "ec2", "create_launch_template", DryRun=True, LaunchTemplateName="kit", LaunchTemplateData=data, absent=yes
    )
    cloud.ask("ec2", "create_security_group", DryRun=True, GroupName="kit", Description="kit", absent=yes)
    cloud.ask(
        "ec2", "run_instances", DryRun=True, ImageId=plan.image, InstanceType=first, MinCount=1, MaxCount=1,
        SubnetId=plan.subnets[0], absent=yes,
    )  # fmt: skip
