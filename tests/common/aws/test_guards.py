"""What AWS itself does that moto does not: it is slow to know, slow to forget, and closes what it likes."""

import datetime
import json
import signal
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from rich.console import Console

from challenges.__main__ import main
from common.aws import launch, resources, runs
from common.aws.lookup import make_plan
from common.aws.plan import Order
from common.errors import KitError
from common.machine.prices import read_prices
from common.storage import cloud as cloud_module
from common.storage.cloud import Cloud, DeniedError
from tests.common.aws.conftest import made

TABLE = read_prices()
ORDER = Order(target="challenge1", instances=("p5.48xlarge",), capacity_block="cr-0123")
QUIET = Console(quiet=True)


@pytest.fixture
def pauses(monkeypatch):
    """Seconds that were waited for, none of which pass."""
    waited = []
    monkeypatch.setattr(cloud_module.time, "sleep", waited.append)
    return waited


def refusal(code, told=""):
    return ClientError({"Error": {"Code": code, "Message": told}}, "Asked")


def refusing(monkeypatch, cloud, service, operation, errors):
    """The first requests of that kind are refused so."""
    client, left = cloud.client(service), list(errors)
    real = getattr(client, operation)

    def answer(**request):
        if left:
            raise left.pop(0)
        return real(**request)

    monkeypatch.setattr(client, operation, answer)


def test_a_profile_that_ec2_does_not_know_yet_is_waited_for(cloud, monkeypatch, pauses):
    plan = make_plan(cloud, Order(target="challenge1", instances=("g5.xlarge",), given_name="a"), TABLE, TABLE.date)
    told = "You must use a valid fully-formed launch template. Invalid IAM Instance Profile ARN"
    refusing(monkeypatch, cloud, "autoscaling", "create_auto_scaling_group", [refusal("ValidationError", told)] * 3)
    launch.launch(cloud, plan, QUIET)
    assert pauses == [cloud_module.PASSING_SECONDS] * 3
    assert made()["groups us-east-1"] == ["kit-a"]


def test_a_refusal_that_does_not_pass_is_told_at_once(cloud, monkeypatch, pauses):
    refusing(monkeypatch, cloud, "ec2", "describe_regions", [refusal("ValidationError", "no such thing")])
    with pytest.raises(KitError, match="no such thing"):
        cloud.ask("ec2", "describe_regions", passing=resources.YOUNG)
    assert pauses == []


def test_a_refusal_that_should_pass_and_does_not_is_told_in_the_end(cloud, monkeypatch, pauses):
    refusing(monkeypatch, cloud, "ec2", "describe_regions", [refusal("DependencyViolation")] * 99)
    with pytest.raises(KitError, match="DependencyViolation"):
        cloud.ask("ec2", "describe_regions", passing=("DependencyViolation",))
    assert len(pauses) == cloud_module.PASSING_TRIES


@pytest.fixture
def ctrl_c():
    """Ctrl-C interrupts, as it does not in a process that a shell has put into the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("operation", ["create_bucket", "create_role", "create_launch_template"])
def test_ctrl_c_while_aws_makes_something_leaves_nothing(operation, cloud, monkeypatch, ctrl_c):
    plan = make_plan(cloud, Order(target="challenge1", instances=("g5.xlarge",), given_name="a"), TABLE, TABLE.date)
    ask, asked = Cloud.ask, []

    def pressed(self, service, operation_asked, **request):
        answer = ask(self, service, operation_asked, **request)
        asked.append(operation_asked)
        if operation_asked in (operation, "delete_bucket"):  # and once more while it is being undone
            signal.raise_signal(signal.SIGINT)
        return answer

    monkeypatch.setattr(Cloud, "ask", pressed)
    with pytest.raises(KeyboardInterrupt):
        launch.launch(cloud, plan, QUIET)
    assert made() == {}
    assert asked[-1] == "delete_bucket"


def test_a_bucket_that_another_run_has_begun_to_use_stays(cloud, monkeypatch):
    plan = make_plan(cloud, Order(target="challenge1", instances=("g5.xlarge",), given_name="a"), TABLE, TABLE.date)
    ask = Cloud.ask

    def cut(self, service, operation, **request):
        if operation == "create_auto_scaling_group":
            ask(self, "s3", "put_object", Bucket=plan.bucket, Key="runs/b/latest.json", Body=b"{}")
            raise DeniedError("x:Y", "", "")
        return ask(self, service, operation, **request)

    monkeypatch.setattr(Cloud, "ask", cut)
    with pytest.raises(DeniedError):
        launch.launch(cloud, plan, QUIET)
    assert made() == {"buckets": [f"{plan.bucket}: ['runs/b/latest.json']"]}


def test_what_cannot_be_undone_is_told(cloud, monkeypatch, capsys):
    refusing(monkeypatch, cloud, "iam", "delete_role", [refusal("AccessDenied")])
    plan = make_plan(cloud, Order(target="challenge1", instances=("g5.xlarge",), given_name="a"), TABLE, TABLE.date)
    refusing(monkeypatch, cloud, "ec2", "create_security_group", [refusal("UnauthorizedOperation")])
    with pytest.raises(DeniedError, match="may not ec2:CreateSecurityGroup"):
        launch.launch(cloud, plan, Console(width=200))
    assert "Left behind: These AWS credentials may not iam:DeleteRole" in capsys.readouterr().out
    assert made() == {"roles": ["kit-a: []"]}


def test_regions_that_a_course_closes_are_named_and_the_others_looked_into(aws, monkeypatch, capsys):
    each = runs._each_piece

    def closed(cloud):
        if cloud.region != "us-east-1":
            raise DeniedError("autoscaling:DescribeAutoScalingGroups", "closed", "")
        return each(cloud)

    monkeypatch.setattr(runs, "_each_piece", closed)
    assert main(["aws", "ls"]) == 0
    told = capsys.readouterr().out
    assert "Closed to these credentials, and not looked into: eu-west-1" in told
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert main(["aws", "ls"]) == 2  # there it is a permission that is missing


def test_down_waits_until_the_group_is_gone(cloud, monkeypatch):
    run, waited = runs.Run("a", "us-east-1", ("group kit-a",), ()), []
    deleted = []
    monkeypatch.setattr(resources, "delete_group", lambda _, called: deleted.append(called))
    monkeypatch.setattr(resources, "find_group", lambda *_: {"Status": "Delete in progress"} if len(waited) < 3 else {})
    runs.take_down(cloud, run, QUIET, wait=waited.append)
    assert (deleted, len(waited)) == (["kit-a"], 3)


def test_a_name_whose_group_is_being_removed_is_not_free_yet(cloud, monkeypatch):
    monkeypatch.setattr(resources, "find_group", lambda *_: {"Status": "Delete in progress", "DesiredCapacity": 0})
    with pytest.raises(KitError, match="still removing the group kit-a"):
        launch.is_under_way(cloud, "a")


def test_a_security_group_that_a_network_card_holds_is_tried_again(cloud, monkeypatch, pauses):
    plan = make_plan(cloud, Order(target="challenge1", instances=("g5.xlarge",), given_name="a"), TABLE, TABLE.date)
    resources.ensure_security_group(launch.Made(cloud), plan)
    refusing(monkeypatch, cloud, "ec2", "delete_security_group", [refusal("DependencyViolation")] * 2)
    runs.sweep(cloud, ["us-east-1"], QUIET)
    assert len(pauses) == 2
    assert made() == {}


def test_why_no_instance_comes_is_told_once_in_awss_words(cloud, monkeypatch, capsys):
    groups = iter([{"DesiredCapacity": 1, "Instances": []}] * 2 + [{}])
    monkeypatch.setattr(resources, "find_group", lambda *_: next(groups))
    monkeypatch.setattr(launch, "state", lambda *_: {"state": "starting"})
    cloud.ask("s3", "create_bucket", Bucket=resources.bucket_of(cloud))
    told = "We currently do not have sufficient g5.xlarge capacity"
    activity = {
        "ActivityId": "1", "AutoScalingGroupName": "kit-a", "Cause": "x", "StatusCode": "Failed", "StatusMessage": told,
        "StartTime": datetime.datetime.now(datetime.UTC),
    }  # fmt: skip
    with Stubber(cloud.client("autoscaling")) as stub:
        for _ in range(2):
            stub.add_response("describe_scaling_activities", {"Activities": [activity]})
        launch.follow(cloud, "a", Console(width=200), wait=lambda _: None)
    assert capsys.readouterr().out.count(f"waiting for an instance: {told}") == 1


def test_a_lost_connection_while_following_says_that_the_run_goes_on(aws, capsys, monkeypatch):
    def lost(*_):
        raise KitError("AWS was not reached: the laptop slept")

    monkeypatch.setattr(launch, "launch", lambda *_: None)
    monkeypatch.setattr(launch, "follow", lost)
    assert main(["aws", "run", "challenge1", "--instance", "g5.xlarge", "--name", "a", "-y"]) == 2
    told = capsys.readouterr()
    assert "a goes on without this command" in told.out
    assert "Follow it: kit aws logs a" in told.out
    assert "the laptop slept" in told.err


def block(instance="p5.48xlarge", state="active", hours=24.5):
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
    return {
        "CapacityReservationId": "cr-0123", "InstanceType": instance, "State": state, "EndDate": end,
        "AvailabilityZone": "us-east-1b",
    }  # fmt: skip


def planned_with(cloud, monkeypatch, blocks, **fields):
    ask = Cloud.ask

    def answer(self, service, operation, **request):
        if operation != "describe_capacity_reservations":
            return ask(self, service, operation, **request)
        with Stubber(self.client("ec2")) as stub:  # botocore's own model checks request and answer
            asked = {"CapacityReservationIds": ["cr-0123"]}
            if blocks is None:
                stub.add_client_error(operation, "InvalidCapacityReservationId.NotFound", expected_params=asked)
            else:
                stub.add_response(operation, {"CapacityReservations": blocks}, asked)
            return ask(self, service, operation, **request)

    monkeypatch.setattr(Cloud, "ask", answer)
    return make_plan(cloud, replace(ORDER, **fields), TABLE, TABLE.date)


def test_a_capacity_block_is_paid_already_lies_in_one_zone_and_ends(cloud, monkeypatch):
    plan = planned_with(cloud, monkeypatch, [block()], max_usd=1, max_hours=100)
    assert plan.usd_per_hour == 0
    assert plan.hours == pytest.approx(24, abs=0.01)
    (subnet,) = cloud.ask("ec2", "describe_subnets", SubnetIds=list(plan.subnets))["Subnets"]
    assert subnet["AvailabilityZone"] == "us-east-1b"


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        (None, "cr-0123 is not in us-east-1"), ([block("p5.4xlarge")], "is of p5.4xlarge and active"),
        ([block(state="scheduled")], "is of p5.48xlarge and scheduled"),
        ([block(hours=0.6)], "What the Capacity Block has left is less"),
    ],
)  # fmt: skip
def test_a_capacity_block_that_does_not_fit_is_refused(blocks, expected, cloud, monkeypatch):
    with pytest.raises(KitError) as refused:
        planned_with(cloud, monkeypatch, blocks)
    assert expected in refused.value.given
    assert made() == {}


def test_a_bucket_of_another_account_is_refused(cloud, monkeypatch):
    plan = make_plan(cloud, Order(target="challenge1", instances=("g5.xlarge",), given_name="a"), TABLE, TABLE.date)
    refusing(monkeypatch, cloud, "s3", "head_bucket", [refusal("403", "Forbidden")])
    with pytest.raises(KitError, match="belongs to another account, or may not be read"):
        launch.launch(cloud, plan, QUIET)
    assert made() == {}


def test_data_that_may_not_be_read_is_refused_by_the_missing_permission(cloud, monkeypatch):
    cloud.ask("s3", "create_bucket", Bucket="photos-1")
    before = made()
    refusing(monkeypatch, cloud, "s3", "head_bucket", [refusal("403", "Forbidden")])
    with pytest.raises(DeniedError, match="may not s3:ListBucket"):
        make_plan(
            cloud, Order(target="challenge1", instances=("g5.xlarge",), data="s3://photos-1/set"), TABLE, TABLE.date
        )
    assert made() == before


def test_a_benchmark_on_another_instance_is_another_run_and_a_training_goes_on():
    def name(instance, **fields):
        return Order(target="x", instances=(instance,), **fields).name

    assert name("g5.xlarge") == name("g6.xlarge")
    assert name("g5.xlarge", measures=True) != name("g6.xlarge", measures=True)


def test_a_role_that_somebody_else_made_is_not_removed(cloud):
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    cloud.ask("iam", "create_role", RoleName="kit-a", AssumeRolePolicyDocument=trust)
    resources.remove_role(cloud, "a")
    assert made()["roles"] == ["kit-a: []"]
