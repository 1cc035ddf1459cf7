"""What a run would cost is told, and what speaks against it is refused, before anything is made."""

import contextlib
import datetime
from dataclasses import replace

import pytest
from botocore.stub import ANY, Stubber

from challenges.__main__ import main
from common.aws.lookup import OVERHEAD_HOURS, make_plan
from common.aws.plan import Order, quota_code, rows
from common.errors import KitError
from common.machine.prices import read_prices
from common.storage.cloud import Cloud, DeniedError
from tests.common.aws.conftest import made

ORDER = Order(target="challenge1", instances=("g6e.xlarge",))
TABLE = read_prices()
TODAY = TABLE.date
COLUMNS = "instance,gpu,num_gpus,vcpus,usd_per_hour_on_demand,region,date"


def planned(cloud, **fields):
    return make_plan(cloud, replace(ORDER, **fields), TABLE, TODAY)


@contextlib.contextmanager
def answering(cloud, service, operation, answer=None, error=None, **request):
    """The service answers so, to a request that botocore's own model has checked."""
    with Stubber(cloud.client(service)) as stub:
        if error:
            stub.add_client_error(operation, *error, expected_params=request or None)
        else:
            stub.add_response(operation, answer, request or None)
        yield stub


def quota(cloud, value, code="L-DB2E81BA"):
    answer = {"Quota": {"Value": value, "QuotaName": "Running On-Demand G and VT instances", "QuotaCode": code}}
    return answering(cloud, "service-quotas", "get_service_quota", answer, ServiceCode="ec2", QuotaCode=code)


def test_a_plan_says_what_it_takes_and_makes_nothing(cloud):
    with quota(cloud, 8.0):
        plan = planned(cloud)
    told = dict(rows(plan))
    assert told["g6e.xlarge"].startswith("1 x L40S, 4 cores each, 250 GB NVMe, $1.861/h (2026-07-20)")
    link = "https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas/L-DB2E81BA?region=us-east-1"
    assert told["quota"] == f"4 of 8 vCPUs, raised at {link}"
    assert "spot now $" in told["g6e.xlarge"]
    assert told["is made"].startswith("bucket kit-123456789012-us-east-1, security group kit; kit-challenge1-")
    assert plan.hours == pytest.approx(10 / 1.861)
    assert plan.expected_hours == pytest.approx(OVERHEAD_HOURS)
    assert plan.notes == ()
    assert made() == {}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_usd": 0.5}, "MAX_USD=0.5 is less than what the run is expected to cost: $0.56"),
        ({"max_hours": 0.2}, "MAX_HOURS=0.2 is less"),
        ({"instances": ("p3.2xlarge",)}, "V100s, of compute capability 7.0: too old"),
        ({"instances": ("g6f.xlarge",)}, "g6f.xlarge"),
        ({"instances": ("t3.large",)}, "The price of t3.large is not known"),
        ({"data": "s3://nowhere-at-all/photos"}, "There is no bucket nowhere-at-all"),
        ({"data": "s3://Photos"}, "names no bucket"),
        ({"data": "/no/such/folder"}, "/no/such/folder is missing"),
        ({"given_name": "My Run"}, "A run cannot be called 'My Run'"),
        ({"capacity_block": "cr-1", "spot": True}, "Capacity Block was given together with spot"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_nothing_made(fields, expected, cloud):
    with pytest.raises(KitError) as refused:
        planned(cloud, **fields)
    assert expected in refused.value.given
    assert refused.value.allowed
    assert refused.value.remedy
    assert refused.value.exit_code == 2
    assert made() == {}


def test_no_quota_is_refused_with_the_place_to_raise_it(cloud):
    with quota(cloud, 0.0), pytest.raises(KitError, match="this account may have 0") as refused:
        planned(cloud)
    assert made() == {}
    assert "quotas/L-DB2E81BA?region=us-east-1" in refused.value.remedy


@pytest.mark.parametrize(
    ("instance", "spot", "code"),
    [
        ("g5.xlarge", False, "L-DB2E81BA"), ("g6e.xlarge", True, "L-3819A6DF"), ("p4d.24xlarge", False, "L-417A185B"),
        ("p4d.24xlarge", True, "L-7212CCBC"), ("p5.4xlarge", True, "L-C4BD4855"), ("p5.4xlarge", False, "L-417A185B"),
    ],
)  # fmt: skip
def test_each_family_has_its_quota(instance, spot, code):
    assert quota_code(instance, spot) == code


def test_a_missing_permission_to_look_up_is_a_note_and_named(cloud):
    told = "User: arn:aws:iam::1:user/x is not authorized to perform: servicequotas:GetServiceQuota on it"
    with answering(cloud, "service-quotas", "get_service_quota", error=("AccessDeniedException", told)):
        assert "servicequotas:GetServiceQuota is missing" in planned(cloud).notes[0]


@pytest.mark.parametrize("operation", ["create_launch_template", "create_security_group", "run_instances"])
def test_a_missing_permission_to_make_is_refused_by_name(operation, cloud, monkeypatch):
    ask = Cloud.ask

    def denied(self, service, asked, **request):
        if asked == operation:
            assert request["DryRun"]
            with answering(self, service, asked, error=("UnauthorizedOperation", "You are not authorized")):
                return ask(self, service, asked, **request)
        return ask(self, service, asked, **request)

    monkeypatch.setattr(Cloud, "ask", denied)
    with pytest.raises(DeniedError) as refused:
        planned(cloud)
    assert made() == {}
    action = "ec2:" + "".join(word.capitalize() for word in operation.split("_"))
    assert refused.value.action == action
    assert action in refused.value.given


def test_no_zone_that_offers_it_is_refused(cloud):
    answer = {"InstanceTypes": []}
    with answering(cloud, "ec2", "describe_instance_types", answer, InstanceTypes=["g6e.xlarge"]) as stub:
        stub.add_response(
            "describe_instance_type_offerings", {"InstanceTypeOfferings": []},
            {"LocationType": "availability-zone", "Filters": ANY},
        )  # fmt: skip
        with pytest.raises(KitError, match=r"g6e\.xlarge is offered in no zone of us-east-1"):
            planned(cloud)
    assert made() == {}


def test_data_in_another_region_is_refused_with_the_price_of_the_way(cloud):
    bucket = Cloud("eu-west-1")
    place = {"LocationConstraint": "eu-west-1"}
    bucket.ask("s3", "create_bucket", Bucket="photos-eu", CreateBucketConfiguration=place)
    bucket.ask("s3", "put_object", Bucket="photos-eu", Key="cats/1.jpg", Body=b"x" * 1000)
    with pytest.raises(KitError, match="lies in eu-west-1, and the run would be in us-east-1") as refused:
        planned(cloud, data="s3://photos-eu/cats")
    assert "$0.02 a GB" in refused.value.allowed
    assert planned(bucket, data="s3://photos-eu/cats", instances=("g4dn.xlarge",)).data_bytes == 1000


def test_an_expected_cost_follows_from_published_speeds(cloud, tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    plan = planned(cloud, data=str(tmp_path), epochs=90, speeds={"L40S": 0.1})
    assert plan.expected_hours == pytest.approx(OVERHEAD_HOURS + 4 * 90 / 0.1 / 3600)
    with pytest.raises(KitError, match="MAX_USD=10 is less"):
        planned(cloud, data=str(tmp_path), epochs=90, speeds={"L40S": 0.01})


def test_spot_is_told_at_todays_price_and_bounded_at_that_on_demand(cloud):
    plan = planned(cloud, spot=True, instances=("g5.xlarge", "g6e.xlarge"))
    assert "spot now $0.000/h" in dict(rows(plan))["g6e.xlarge"]
    assert plan.usd_per_hour == 1.861


@pytest.mark.parametrize(("days", "warns"), [(120, False), (121, True)])
def test_a_table_past_120_days_is_warned_about(days, warns, cloud):
    later = TABLE.date + datetime.timedelta(days=days)
    assert ("days old" in TABLE.warning(later)) == warns
    assert any("days old" in note for note in make_plan(cloud, ORDER, TABLE, later).notes) == warns


def test_prices_show_their_date(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["aws", "prices"]) == 0
    shown = capsys.readouterr().out
    assert "prices of 2026-07-20" in shown
    assert "g6e.xlarge" in shown


@pytest.mark.parametrize(
    "text",
    ["", "instance,gpu\n", f"{COLUMNS}\ng,L4,1,4,nan,r,2026-01-01\n", f"{COLUMNS}\ng,L4,1,4,-1,r,2026-01-01\n"],
)
def test_a_table_that_is_none_is_refused(text, tmp_path):
    (tmp_path / "prices.csv").write_text(text)
    with pytest.raises(KitError, match="is no table of prices"):
        read_prices(tmp_path / "prices.csv")


def refused(capsys, *arguments):
    assert main(["aws", "plan", "challenge1", "--instance", "g6e.xlarge", *arguments]) == 2
    return capsys.readouterr().err


def test_no_credentials_are_told(aws, monkeypatch, capsys):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "There are no AWS credentials here" in refused(capsys)


def test_no_region_is_told(aws, monkeypatch, capsys):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "No AWS region was given" in refused(capsys)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ExpiredToken", "The AWS session has expired"),
        ("InvalidClientTokenId", "AWS does not know these credentials"),
        ("AccessDenied", "may not sts:GetCallerIdentity"), ("Throttled", "AWS refused sts:GetCallerIdentity"),
    ],
)  # fmt: skip
def test_each_refusal_of_aws_has_its_sentence(code, expected, cloud):
    with answering(cloud, "sts", "get_caller_identity", error=(code, "")), pytest.raises(KitError, match=expected):
        planned(cloud)
    assert made() == {}


def test_without_the_extra_it_is_said_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)
    assert "pip install '.[aws]'" in refused(capsys)
    assert main(["check", "s3://my-bucket/photos"]) == 2
    told = capsys.readouterr().err
    assert "my-bucket" in told
    assert "pip install '.[aws]'" in told
