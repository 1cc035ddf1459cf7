"""A launch makes what the plan named, once; cut off it leaves nothing; taken down it is gone."""

import base64
import json
import re
from dataclasses import replace

import pytest
from botocore.stub import Stubber
from rich.console import Console

from challenges.__main__ import main
from common.aws import launch, resources, runs
from common.aws.lookup import make_plan
from common.aws.made import Made
from common.aws.plan import Order
from common.errors import KitError
from common.machine.environment import ROOT
from common.machine.prices import read_prices
from common.storage.cloud import Cloud, DeniedError, camel, permission
from common.storage.s3 import upload
from tests.common.aws.conftest import ACCOUNT, made

TABLE = read_prices()
ORDER = Order(target="challenge1", instances=("g6e.xlarge", "g5.xlarge"), spot=True, given_name="photos")
LAID_OUT = [f"runs/photos/{name}" for name in ("code.tar.gz", "latest.json", "state.json")]
QUIET = Console(quiet=True)
BUCKET = f"kit-{ACCOUNT}-us-east-1"


@pytest.fixture
def plan(cloud):
    return make_plan(cloud, ORDER, TABLE, TABLE.date)


def template(cloud):
    answer = cloud.ask(
        "ec2", "describe_launch_template_versions", LaunchTemplateName="kit-photos", Versions=["$Latest"]
    )
    return answer["LaunchTemplateVersions"][0]["LaunchTemplateData"]


def test_a_launch_makes_what_the_plan_names_and_nothing_else(cloud, plan):
    launch.launch(cloud, plan, QUIET)
    there = made()
    instances = there.pop("instances us-east-1")
    assert len(instances) == 1
    assert there == {
        "buckets": [f"{BUCKET}: {LAID_OUT}"],
        "roles": ["kit-photos: ['run']"], "profiles": ["kit-photos"],
        "templates us-east-1": ["kit-photos"], "security groups us-east-1": ["kit"], "groups us-east-1": ["kit-photos"],
    }  # fmt: skip
    group = resources.find_group(cloud, "photos")
    assert (group["MinSize"], group["MaxSize"], group["DesiredCapacity"]) == (0, 1, 1)
    (switch,) = cloud.ask("autoscaling", "describe_scheduled_actions", AutoScalingGroupName="kit-photos")[
        "ScheduledUpdateGroupActions"
    ]
    told = json.loads(re.search(r"^CONFIG = '(.*)'$", script(cloud), re.MULTILINE)[1])
    assert (switch["MaxSize"], int(switch["StartTime"].timestamp())) == (0, told["ends"])


def script(cloud):
    return base64.b64decode(template(cloud)["UserData"]).decode()


def test_an_instance_is_closed_encrypted_and_asks_its_metadata_by_session_only(cloud, plan):
    launch.launch(cloud, plan, QUIET)
    data = resources.template_data(plan, "profile", "group", "")
    assert data["MetadataOptions"] == {
        "HttpTokens": "required", "HttpPutResponseHopLimit": 2, "HttpEndpoint": "enabled"
    }  # fmt: skip
    (disk,) = data["BlockDeviceMappings"]
    speed = {"VolumeType": "gp3", "Throughput": 500}
    assert disk["Ebs"] == {"VolumeSize": 200, "Encrypted": True, "DeleteOnTermination": True, **speed}
    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert {each["ResourceType"]: resources.owner(each["Tags"]) for each in data["TagSpecifications"]} == {
        "instance": "photos", "volume": "photos"
    }  # fmt: skip
    (group,) = cloud.ask("ec2", "describe_security_groups", GroupNames=["kit"])["SecurityGroups"]
    assert group["IpPermissions"] == []
    assert "KeyName" not in data
    compile(script(cloud), "guest.py", "exec")
    assert len(script(cloud)) <= 16_384


def test_the_role_reaches_its_own_prefix_its_data_and_its_own_group(cloud, plan):
    launch.launch(cloud, plan, QUIET)
    document = cloud.ask("iam", "get_role_policy", RoleName="kit-photos", PolicyName="run")["PolicyDocument"]
    group = resources.find_group(cloud, "photos")["AutoScalingGroupARN"]
    statements = document["Statement"]
    assert [(each["Action"], each["Resource"]) for each in statements] == [
        (["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], f"arn:aws:s3:::{BUCKET}/runs/photos/*"),
        (["s3:ListBucket"], f"arn:aws:s3:::{BUCKET}"),
        (["autoscaling:UpdateAutoScalingGroup"], group),
    ]
    assert statements[1]["Condition"] == {"StringLike": {"s3:prefix": "runs/photos/*"}}
    with_data = resources.role_policy(plan, "s3://others/photos", group)["Statement"]
    assert with_data[3]["Resource"] == ["arn:aws:s3:::others/photos", "arn:aws:s3:::others/photos/*"]
    assert with_data[4]["Condition"] == {"StringLike": {"s3:prefix": ["photos", "photos/*"]}}
    for each in with_data:
        assert each["Resource"] != "*"
        assert not any("*" in action for action in each["Action"])


def test_a_prefix_is_a_name_to_the_role_and_no_pattern(plan):
    read = resources.role_policy(plan, "s3://others/a*b?c$", "group")["Statement"][3]
    assert read["Resource"] == ["arn:aws:s3:::others/a${*}b${?}c${$}", "arn:aws:s3:::others/a${*}b${?}c${$}/*"]
    whole = resources.role_policy(plan, "s3://others", "group")["Statement"][3]
    assert whole["Resource"] == ["arn:aws:s3:::others/*"]


def test_the_bucket_is_private_and_encrypted(cloud, plan):
    launch.launch(cloud, plan, QUIET)
    closed = cloud.ask("s3", "get_public_access_block", Bucket=BUCKET)["PublicAccessBlockConfiguration"]
    assert closed == dict.fromkeys(closed, True)
    (rule,) = cloud.ask("s3", "get_bucket_encryption", Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}


def test_the_same_command_again_makes_nothing_more_and_asks_nothing(aws, capsys, monkeypatch):
    line = ["aws", "run", "challenge1", "--instance", "g6e.xlarge", "--name", "photos", "--detach"]
    assert main([*line, "-y"]) == 0
    before = made()
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("it is under way"))
    capsys.readouterr()
    assert main(line) == 0
    told = capsys.readouterr().out
    assert "photos is under way already" in told
    assert "Follow it: kit aws logs photos" in told
    assert made() == before


def test_a_run_whose_group_is_empty_is_launched_again_with_a_new_deadline(cloud, plan, monkeypatch):
    launch.launch(cloud, plan, QUIET)
    cloud.ask("autoscaling", "update_auto_scaling_group", AutoScalingGroupName="kit-photos", DesiredCapacity=0)
    first, ask, started = script(cloud), Cloud.ask, []

    def without_instances(self, service, operation, **request):  # moto starts none from a second version
        if request.get("DesiredCapacity") == 1:
            started.append(request["AutoScalingGroupName"])
            return {}
        return ask(self, service, operation, **request)

    monkeypatch.setattr(Cloud, "ask", without_instances)
    launch.launch(cloud, replace(plan, order=replace(ORDER, max_hours=5)), QUIET)
    assert started == ["kit-photos"]
    assert script(cloud) != first
    versions = ask(cloud, "ec2", "describe_launch_templates", LaunchTemplateNames=["kit-photos"])["LaunchTemplates"]
    assert versions[0]["LatestVersionNumber"] == 2


def test_spot_takes_whichever_listed_type_is_least_likely_to_be_interrupted(plan):
    policy = resources.group_request(plan, "2")["MixedInstancesPolicy"]
    types = policy["LaunchTemplate"]["Overrides"]
    assert [each["InstanceType"] for each in types] == ["g6e.xlarge", "g5.xlarge"]
    assert policy["LaunchTemplate"]["LaunchTemplateSpecification"]["Version"] == "2"
    shares = policy["InstancesDistribution"]
    assert shares["SpotAllocationStrategy"] == "price-capacity-optimized"
    assert shares["OnDemandPercentageAboveBaseCapacity"] == 0
    plain = replace(plan, order=replace(ORDER, spot=False))
    shares = resources.group_request(plain, "2")["MixedInstancesPolicy"]["InstancesDistribution"]
    assert shares["OnDemandPercentageAboveBaseCapacity"] == 100


CREATING = [
    ("s3", "create_bucket"), ("s3", "put_bucket_encryption"), ("iam", "create_role"),
    ("iam", "create_instance_profile"),
    ("ec2", "create_security_group"), ("s3", "put_object"), ("ec2", "create_launch_template"),
    ("autoscaling", "create_auto_scaling_group"), ("autoscaling", "put_scheduled_update_group_action"),
    ("iam", "put_role_policy"), ("autoscaling", "update_auto_scaling_group"),
]  # fmt: skip


DENIED, CTRL_C = DeniedError("x:Y", "", ""), KeyboardInterrupt()
CUTS = [*((where, DENIED) for where in CREATING), (CREATING[-1], CTRL_C)]


@pytest.mark.parametrize(("where", "error"), CUTS, ids=[f"{where[1]}-{error!r:.8}" for where, error in CUTS])
def test_a_launch_that_is_cut_off_leaves_nothing(where, error, cloud, plan, monkeypatch):
    ask = Cloud.ask

    def cut(self, service, operation, **request):
        if (service, operation) == where:
            raise error
        return ask(self, service, operation, **request)

    monkeypatch.setattr(Cloud, "ask", cut)
    with pytest.raises(type(error)):
        launch.launch(cloud, plan, QUIET)
    assert made() == {}


def test_every_creating_request_is_made(cloud, plan, monkeypatch):
    """So that none of those above is cut off in vain."""
    ask, asked = Cloud.ask, []
    monkeypatch.setattr(Cloud, "ask", lambda self, s, o, **rest: (asked.append((s, o)), ask(self, s, o, **rest))[1])
    launch.launch(cloud, plan, QUIET)
    assert {*CREATING} <= {*asked}
    changing = ("create", "put", "update", "add")
    assert asked.index(("autoscaling", "put_scheduled_update_group_action")) < len(asked) - 2
    assert [each for each in asked if each[1].startswith(changing)][-1] == ("autoscaling", "update_auto_scaling_group")


def test_the_document_lists_every_permission_that_is_needed(cloud, monkeypatch, capsys):
    asked = {"ec2:RunInstances", "iam:PassRole"}  # which AWS asks for where a group starts an instance
    for method in ("ask", "listed"):
        before = getattr(Cloud, method)

        def noted(self, service, operation, *given, before=before, **request):
            asked.add(permission(service, camel(operation)))
            return before(self, service, operation, *given, **request)

        monkeypatch.setattr(Cloud, method, noted)
    launch.launch(cloud, make_plan(cloud, ORDER, TABLE, TABLE.date), QUIET)
    assert main(["aws", "down", "--all"]) == 0
    told = re.findall(r"\b[a-z0-9]+:[A-Z]\w+", (ROOT / "docs" / "aws.md").read_text())
    assert asked <= {*told}


@pytest.mark.parametrize("kind", ["role", "template", "group", "security group", "bucket"])
def test_a_name_that_is_taken_is_refused(kind, cloud, plan):
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    if kind == "role":
        cloud.ask("iam", "create_role", RoleName="kit-photos", AssumeRolePolicyDocument=trust)
    elif kind == "bucket":
        cloud.ask("s3", "create_bucket", Bucket=BUCKET)
    elif kind == "security group":
        cloud.ask("ec2", "create_security_group", GroupName="kit", Description="mine", VpcId=plan.vpc)
    else:
        data = {"ImageId": plan.image, "InstanceType": "t3.micro"}
        name = "kit-photos" if kind == "template" else "mine"
        cloud.ask("ec2", "create_launch_template", LaunchTemplateName=name, LaunchTemplateData=data)
    if kind == "group":
        cloud.ask(
            "autoscaling", "create_auto_scaling_group", AutoScalingGroupName="kit-photos", MinSize=0, MaxSize=0,
            LaunchTemplate={"LaunchTemplateName": "mine"}, AvailabilityZones=["us-east-1a"],
        )  # fmt: skip
    before = made()
    with pytest.raises(KitError, match="is not the kit's: its tag challenge-kit is missing"):
        launch.launch(cloud, plan, QUIET)
    assert made() == before


def test_a_security_group_that_somebody_opened_is_refused(cloud, plan):
    launch.launch(cloud, plan, QUIET)
    (group,) = cloud.ask("ec2", "describe_security_groups", GroupNames=["kit"])["SecurityGroups"]
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    cloud.ask("ec2", "authorize_security_group_ingress", GroupId=group["GroupId"], IpPermissions=[rule])
    with pytest.raises(KitError, match="lets connections in"):
        resources.ensure_security_group(Made(cloud), plan)


def test_a_capacity_block_is_asked_for_by_its_number(cloud, plan):
    block = replace(plan, order=replace(ORDER, spot=False, instances=("p5.48xlarge",), capacity_block="cr-0123"))
    data = resources.template_data(block, "profile", "group", "")
    assert data["InstanceMarketOptions"] == {"MarketType": "capacity-block"}
    assert data["CapacityReservationSpecification"]["CapacityReservationTarget"]["CapacityReservationId"] == "cr-0123"
    assert "MixedInstancesPolicy" not in resources.group_request(block, "1")
    with Stubber(cloud.client("ec2")) as stub:  # the service's own model knows every field
        stub.add_response("create_launch_template", {})
        cloud.ask("ec2", "create_launch_template", LaunchTemplateName="x", LaunchTemplateData=data)


def test_a_folder_is_uploaded_once(cloud, plan, tmp_path):
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    for number in range(3):
        (tmp_path / "photos" / "cats" / f"{number} é.jpg").write_bytes(b"x" * number)
    given = str(tmp_path / "photos")
    resources.ensure_bucket(Made(cloud), plan)
    address = upload(cloud, BUCKET, given, QUIET)
    assert re.fullmatch(rf"s3://{BUCKET}/data/[0-9a-f]{{16}}/photos", address)
    with Stubber(cloud.client("s3")) as stub:  # a second upload only lists
        keys = made()["buckets"][0]
        names = re.findall(r"'(data/.*?)'", keys)
        contents = [{"Key": name, "Size": int(name[-7])} for name in names]
        stub.add_response("list_objects_v2", {"Contents": contents})
        assert upload(cloud, BUCKET, given, QUIET) == address
    assert len(names) == 3


def test_down_leaves_nothing_but_results(cloud, plan, capsys):
    launch.launch(cloud, plan, QUIET)
    assert main(["aws", "ls"]) == 0
    assert "photos" in capsys.readouterr().out
    assert main(["aws", "down", "photos"]) == 0
    told = capsys.readouterr().out
    assert f"Results and data stay in s3://{BUCKET}" in told
    assert told.rstrip().endswith("regions: nothing.")
    assert made() == {"buckets": [f"{BUCKET}: {LAID_OUT}"]}
    assert main(["aws", "ls"]) == 0
    assert "No run has anything in AWS" in capsys.readouterr().out


def test_down_spares_what_is_not_the_kits(cloud, plan, capsys):
    data = {"ImageId": plan.image, "InstanceType": "t3.micro"}
    cloud.ask("ec2", "create_launch_template", LaunchTemplateName="mine", LaunchTemplateData=data)
    cloud.ask("ec2", "run_instances", ImageId=plan.image, MinCount=1, MaxCount=1)
    before = made()
    launch.launch(cloud, plan, QUIET)
    assert main(["aws", "down", "--all"]) == 0
    after = made()
    after.pop("buckets")
    assert after == before


def test_a_shell_opens_only_when_it_is_asked_for(cloud, plan):
    launch.launch(cloud, plan, QUIET)
    command = runs.open_shell(cloud, runs.find_run(cloud, "photos", QUIET))
    assert command[:6] == ["aws", "ssm", "start-session", "--region", "us-east-1", "--target"]
    assert command[6].startswith("i-")
    assert made()["roles"] == ["kit-photos: ['run', 'shell']"]
    runs.take_down(cloud, runs.find_run(cloud, "photos", QUIET), QUIET)
    assert "roles" not in made()


@pytest.mark.parametrize("verb", ["logs", "shell", "down"])
def test_a_run_that_is_not_there_is_told(verb, aws, capsys):
    assert main(["aws", verb, "nothing"]) == 2
    assert "There is no run nothing in AWS" in capsys.readouterr().err


def interrupted(*_):
    raise KeyboardInterrupt


def test_nothing_is_launched_unless_somebody_agrees(aws, capsys, monkeypatch):
    line = ["aws", "run", "challenge1", "--instance", "g6e.xlarge"]
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert main(line) == 2
    assert "Pass -y" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "")
    assert main(line) == 0
    assert "Nothing was made." in capsys.readouterr().out
    monkeypatch.setattr("builtins.input", interrupted)
    assert main(line) == 130
    assert main([*line, "--dry-run", "-y"]) == 0
    assert made() == {}


def test_ctrl_c_while_following_leaves_the_run_going(aws, capsys, monkeypatch):
    monkeypatch.setattr(launch, "follow", interrupted)
    line = ["aws", "run", "challenge1", "--instance", "g6e.xlarge", "--name", "photos", "-y"]
    assert main(line) == 130
    told = capsys.readouterr().out
    assert "Follow it: kit aws logs photos" in told
    assert "End it: kit aws down photos" in told
    assert made()["groups us-east-1"] == ["kit-photos"]
