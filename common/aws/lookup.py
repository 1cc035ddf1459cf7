"""What an order takes, looked up before anything is made; whatever speaks against it is refused here."""

import datetime
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common.aws.plan import NAME, WITHIN_REGION, Machine, Order, Plan, quota_code, quota_link
from common.errors import DataError, KitError
from common.machine.prices import Price, PriceTable
from common.storage import s3
from common.storage.cloud import Cloud, unless_denied

IMAGE = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
"""The public parameter that names the newest Deep Learning Base AMI: driver, Docker, NVIDIA's toolkit, AWS CLI."""
OLD = {"V100": "7.0", "P100": "6.0", "M60": "5.2", "K80": "3.7", "K520": "3.0"}
"""GPUs of AWS below compute capability 7.5, the least that CUDA 13 runs on."""
NEWER = "Choose g4dn, g5, g6, g6e, p4d or newer: docs/aws.md compares them."
OVERHEAD_HOURS = 0.3  # the machine's start, NVIDIA's image of some 10 GB, the last uploads
EGRESS_USD_PER_GB = 0.02  # from one region to another, aws.amazon.com/s3/pricing


def make_plan(cloud: Cloud, order: Order, table: PriceTable, today: datetime.date) -> Plan:
    """Look up what an order takes. Asks only; raises KitError for whatever would make it fail or cost too much."""
    _require_sound(order)
    prices = [table.of(instance) for instance in order.instances]
    account, notes = cloud.account, [table.warning(today)]
    machines = tuple(_machine(cloud, price, order, notes) for price in prices)
    for machine in machines:
        if machine.price.region != cloud.region:
            notes.append(f"the price of {machine.price.instance} is that of {machine.price.region}")
    listing, local_bytes, samples = _data(cloud, order)
    image, root_device = _image(cloud)
    zones, block_hours = _block(cloud, order, frozenset().union(*(machine.zones for machine in machines)))
    vpc, subnets = _network(cloud, zones)
    expected = _expected_hours(order, machines, samples, listing.bytes if listing else local_bytes, notes)
    plan = Plan(
        order, account, cloud.region, machines, listing, local_bytes, image, root_device, subnets, vpc, expected,
        block_hours, tuple(filter(None, notes)),
    )  # fmt: skip
    _require_within_bounds(plan)
    _require_permissions(cloud, plan)
    return plan


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
    here: dict[str, Any] = {"Filters": [{"Name": "instance-type", "Values": [name]}]}
    here["LocationType"] = "availability-zone"
    offers = cloud.listed("ec2", "describe_instance_type_offerings", "InstanceTypeOfferings", **here)
    zones = frozenset(row["Location"] for row in offers)
    if not found or not zones:
        raise KitError(
            f"{name} is offered in no zone of {cloud.region}.", "Types of instances differ from region to region.",
            "Choose another --instance or --region.",
        )  # fmt: skip
    facts: Mapping[str, Any] = found[0]
    _require_gpu(price, facts)
    spot, vcpus = None, facts["VCpuInfo"]["DefaultVCpus"]
    with unless_denied(notes, f"today's spot price of {name}"):
        spot = _spot_price(cloud, name)
    nvme_gb = facts.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0)
    return Machine(price, vcpus, nvme_gb, spot, zones, _required_quota(cloud, name, vcpus, order, notes))


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


def _required_quota(cloud: Cloud, instance: str, vcpus: int, order: Order, notes: list[str]) -> float | None:
    code = quota_code(instance, order.spot)
    if order.capacity_block:
        return None  # a block is capacity that is paid for
    answer: Mapping[str, Any] = {}
    with unless_denied(notes, "the vCPU quota"):
        unknown = ("NoSuchResourceException",)
        answer = cloud.ask("service-quotas", "get_service_quota", ServiceCode="ec2", QuotaCode=code, absent=unknown)
    if not answer:
        notes.append(f"the vCPU quota {code} is not known here: a launch may still meet it")
        return None
    allowed: float = answer["Quota"]["Value"]
    if allowed < vcpus:
        raise KitError(
            f"{instance} has {vcpus} vCPUs, and this account may have {allowed:g} "
            f"({answer['Quota'].get('QuotaName', code)}).",
            "AWS sets a new account's quota of GPU instances to 0; raising it is free and takes hours to days.",
            f"Ask for {vcpus} or more: {quota_link(cloud.region, code)}",
        )
    return allowed


def _block(cloud: Cloud, order: Order, zones: frozenset[str]) -> tuple[frozenset[str], float]:
    """The one zone of a Capacity Block, and its hours until AWS clears it, half an hour before its end."""
    if not order.capacity_block:
        return zones, math.inf
    unknown = ("InvalidCapacityReservationId.NotFound", "InvalidCapacityReservationId.Malformed")
    asked: dict[str, Any] = {"CapacityReservationIds": [order.capacity_block]}
    blocks = cloud.ask("ec2", "describe_capacity_reservations", absent=unknown, **asked).get("CapacityReservations", [])
    told = [f"is of {block['InstanceType']} and {block['State']}" for block in blocks]
    if told != [f"is of {order.instances[0]} and active"]:
        raise KitError(
            f"The Capacity Block {order.capacity_block} {told[0] if told else f'is not in {cloud.region}'}.",
            "A run needs one of its own INSTANCE, in its region, that has begun and is not over.",
            "See: aws ec2 describe-capacity-reservations",
        )
    left = blocks[0]["EndDate"] - datetime.datetime.now(datetime.UTC)
    return frozenset([blocks[0]["AvailabilityZone"]]), left.total_seconds() / 3600 - 0.5


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


def _expected_hours(order: Order, machines: Iterable[Machine], samples: int, size: int, notes: list[str]) -> float:
    """By what records say of the slowest machine, else published speeds; else what every run takes before it learns."""
    waiting = OVERHEAD_HOURS + size / WITHIN_REGION / 3600 + order.told_hours
    speeds = [
        order.rates.get(each.price.instance) or order.speeds.get(each.price.gpu, 0.0) * each.price.num_gpus
        for each in machines
    ]
    if not order.epochs or not min(speeds):
        if order.data and not order.told_hours:
            notes.append("how long it learns is not known, only what comes before: MAX_HOURS and MAX_USD end it")
        return waiting
    return waiting + samples * order.epochs / min(speeds) / 3600


def _require_within_bounds(plan: Plan) -> None:
    expected, order = plan.expected_hours, plan.order
    usd = expected * plan.usd_per_hour
    if usd > order.max_usd:
        raise KitError(
            f"MAX_USD={order.max_usd:g} is less than what the run is expected to cost: ${usd:.2f}.",
            f"It takes some {expected:.1f} h at ${plan.usd_per_hour:.3f}/h.",
            f"Raise MAX_USD to {math.ceil(usd * 1.5)}, choose a cheaper INSTANCE, or fewer epochs.",
        )  # fmt: skip
    if expected > plan.hours:
        bound = "What the Capacity Block has left" if plan.hours < order.max_hours else f"MAX_HOURS={order.max_hours:g}"
        raise KitError(
            f"{bound} is less than what the run is expected to take: {expected:.1f} h.",
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
