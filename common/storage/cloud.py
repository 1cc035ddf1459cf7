"""AWS as the kit asks it: one call for every request, and what AWS refuses in the kit's own words."""

import contextlib
import copy
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import KitError

Answer = dict[str, Any]

PASSING_SECONDS, PASSING_TRIES = 5.0, 24
DENIED = {"AccessDenied", "AccessDeniedException", "AccessDeniedFault", "UnauthorizedOperation", "403", "Forbidden"}
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
UNKNOWN_KEY = {
    *("InvalidClientTokenId", "AuthFailure", "SignatureDoesNotMatch", "UnrecognizedClientException"),
    *("InvalidAccessKeyId", "OptInRequired"),
}
_SERVICES = {"service-quotas": "servicequotas"}
"""What permissions call a service, where that is not what its client is called."""
_ACTIONS = {
    "s3:ListObjectsV2": "s3:ListBucket", "s3:HeadBucket": "s3:ListBucket", "s3:HeadObject": "s3:GetObject",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:DeleteObjects": "s3:DeleteObject",
}  # fmt: skip
"""The permission that a request needs, where it is not called as the request."""


class DeniedError(KitError):
    """A request that these credentials may not make.

    action: the permission that is missing, as policies write it.
    """

    def __init__(self, action: str, given: str, remedy: str) -> None:
        self.action = action
        super().__init__(given, "Nothing is done beyond what the account allows.", remedy)


class Cloud:
    """An account in one region; clients are made when they are first asked."""

    def __init__(self, region: str | None = None) -> None:
        self._session = _session(region)
        found = self._session.region_name
        if not found:
            raise KitError(
                "No AWS region was given, and none is configured.",
                "A run, its bucket and its data lie in one region.",
                "Pass --region us-east-1, or: aws configure set region us-east-1",
            )
        self.region: str = found
        self._clients: dict[tuple[str, str], Any] = {}
        self._account = ""

    def client(self, service: str, region: str | None = None) -> Any:
        """A client of botocore's."""
        key = service, region or self.region
        if key not in self._clients:
            from botocore.config import Config

            settings = Config(
                retries={"mode": "standard", "max_attempts": 5}, connect_timeout=10, read_timeout=60,
                max_pool_connections=32,
            )  # fmt: skip
            self._clients[key] = self._session.client(service, region_name=key[1], config=settings)
        return self._clients[key]

    def at(self, region: str) -> "Cloud":
        """The same account in another region."""
        other = copy.copy(self)
        other.region = region
        return other

    @property
    def account(self) -> str:
        """The account's number; raises KitError where there are no credentials, or none that count."""
        if not self._account:
            self._account = str(self.ask("sts", "get_caller_identity")["Account"])
        return self._account

    def ask(
        self, service: str, operation: str, *, absent: tuple[str, ...] = (), passing: tuple[str, ...] = (),
        region: str | None = None, **request: Any,
    ) -> Answer:  # fmt: skip
        """The answer to a request, named as botocore's methods are.

        absent:  codes of errors that mean that there is none: the answer is then empty.
        passing: codes, or pieces of what AWS says, of refusals that pass, such as of what was made a moment ago: it is
                 asked again for two minutes.
        Raises DeniedError with the missing permission, KitError for credentials and for all else that AWS refuses.
        """
        tries = itertools.count(1)
        with _translated(service, operation):
            client = self.client(service, region)
            while True:
                try:
                    answer: Answer = getattr(client, operation)(**request)
                    return answer
                except client.exceptions.ClientError as error:
                    code, told = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
                    if code in absent:
                        return {}
                    if next(tries) > PASSING_TRIES or not any(part == code or part in told for part in passing):
                        raise
                time.sleep(PASSING_SECONDS)

    def wait(self, service: str, waiter: str, **request: Any) -> None:
        """Wait until something has come to be, by the service's own patience; raises as `ask` does."""
        with _translated(service, waiter):
            self.client(service).get_waiter(waiter).wait(**request)

    def upload(self, path: Path, bucket: str, key: str) -> None:
        """Send a file, in parts where it is large; raises as `ask` does."""
        from boto3.exceptions import S3UploadFailedError

        with _translated("s3", "put_object"):
            try:
                self.client("s3").upload_file(str(path), bucket, key)
            except S3UploadFailedError as error:
                raise error.__context__ or error from None

    def listed(
        self, service: str, operation: str, part: str, *, region: str | None = None, **request: Any
    ) -> Iterator[Any]:
        """Every element of `part` over all pages of an answer; raises as `ask` does."""
        with _translated(service, operation):
            for page in self.client(service, region).get_paginator(operation).paginate(**request):
                yield from page.get(part, ())


@contextlib.contextmanager
def _translated(service: str, operation: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise refusal(error, service, camel(operation)) from error
    except BotoCoreError as error:
        raise unreached(error) from error


def _session(region: str | None) -> Any:
    try:
        import boto3
    except ModuleNotFoundError as error:
        if error.name != "boto3":
            raise
        raise missing_boto3("Renting from AWS") from None
    from botocore.exceptions import BotoCoreError

    try:
        return boto3.session.Session(region_name=region)
    except BotoCoreError as error:
        raise unreached(error) from error


def missing_boto3(what: str) -> KitError:
    """The error where the extra is not installed."""
    return KitError(
        f"{what} needs boto3, which is not installed.", "It is in the kit's extra `aws`.", "pip install '.[aws]'"
    )


def camel(operation: str) -> str:
    """A method's name as AWS writes the request's."""
    return "".join(word.capitalize() for word in operation.split("_"))


def permission(service: str, operation: str) -> str:
    """What policies call the permission for a request."""
    action = f"{_SERVICES.get(service, service)}:{operation}"
    return _ACTIONS.get(action, action)


def refusal(error: Any, service: str, operation: str) -> KitError:
    """What AWS answered, an error of botocore's, as one of the kit's."""
    code, told = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    action = permission(service, operation)
    if code in DENIED:
        named = re.search(r"not authorized to perform:? ([\w-]+:\w+)", told)
        missing = named[1] if named else action
        return DeniedError(
            missing, f"These AWS credentials may not {missing}.",
            f"Let whoever runs the account add {missing} to your user or role (docs/aws.md lists all that are needed).",
        )  # fmt: skip
    if code in EXPIRED:
        return KitError(
            "The AWS session has expired.", "A session is valid for some hours.", "Log in again: aws sso login"
        )
    if code in UNKNOWN_KEY:
        return KitError(
            f"AWS does not know these credentials ({code}).", "A key belongs to one account and can be switched off.",
            "Check with: aws sts get-caller-identity",
        )  # fmt: skip
    return KitError(f"AWS refused {action}: {told or code}", f"Its code is {code}.", "See docs/aws.md, or ask AWS.")


def unreached(error: Exception) -> KitError:
    """What kept botocore from asking at all, as an error of the kit."""
    kind = type(error).__name__
    if kind in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"):
        return KitError(
            f"There are no AWS credentials here: {error}", "aws configure, aws sso login or AWS_PROFILE bring them.",
            "Set them up, then check with: aws sts get-caller-identity",
        )  # fmt: skip
    if kind == "WaiterError":
        return KitError(
            f"AWS took longer than is usual: {error}", "What was begun goes on there.", "Run the same command again."
        )
    if "Token" in kind:
        return KitError(
            f"The AWS session cannot be used: {error}", "A session is valid for some hours.", "aws sso login"
        )
    return KitError(f"AWS was not reached: {error}", "The kit asks AWS from this machine.", "Check the connection.")


@contextlib.contextmanager
def unless_denied(gaps: list[str], what: str) -> Iterator[None]:
    """Go on where something cannot be looked up for want of a permission, which `gaps` then tells."""
    try:
        yield
    except DeniedError as error:
        gaps.append(f"{what}: not looked up, {error.action} is missing")
