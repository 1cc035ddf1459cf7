"""Data that lies in S3: listed, and kept as a local copy that is brought up to date."""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console

from common.errors import DamagedFileError, DataError, KitError
from common.files import cache_folder, file_stamp, read_json, sha256, stamps_digest, write_json
from common.storage.cloud import Cloud, DeniedError, missing_boto3
from common.storage.run_lock import hold
from common.terminal.console import say

SCHEME = "s3://"
AT_ONCE = 16  # objects; one stream of S3 gives some 80 MB/s
PIECE = 1 << 20  # bytes


@dataclass(frozen=True)
class Object:
    """One object: its key below what was asked for, bytes, the mark of its content, seconds of its last change."""

    name: str
    key: str
    bytes: int
    etag: str
    changed: int


@dataclass(frozen=True)
class Listing:
    """What lies at an address, all in one bucket; `single` where it is one object and no prefix."""

    bucket: str
    prefix: str
    region: str
    objects: tuple[Object, ...]
    single: bool

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.objects)


def is_address(data: str) -> bool:
    return data.startswith(SCHEME)


def parts(address: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://bucket/prefix`; raises DataError for what names no bucket."""
    bucket, _, prefix = address.removeprefix(SCHEME).partition("/")
    plain = bucket.replace("-", "").replace(".", "")
    if not (3 <= len(bucket) <= 63 and plain.isascii() and plain.isalnum() and bucket == bucket.lower()):
        raise DataError(
            f"{address} names no bucket.", "A bucket has 3 to 63 small letters, digits, hyphens and dots.",
            "Write s3://BUCKET/PREFIX.",
        )  # fmt: skip
    if any(part in (".", "..") for part in prefix.split("/")):
        raise DataError(f"{address} leads elsewhere.", "A prefix has no parts . and ..", "Write s3://BUCKET/PREFIX.")
    return bucket, prefix.strip("/")


def find(cloud: Cloud, address: str) -> Listing:
    """What lies at an address. Raises DataError where nothing does, and DeniedError."""
    bucket, prefix = parts(address)
    region = region_of(cloud, bucket)
    rows = list(cloud.listed("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=prefix, region=region))
    single = [row for row in rows if row["Key"] == prefix]
    below = f"{prefix}/" if prefix else ""
    chosen = single or [row for row in rows if row["Key"].startswith(below) and not row["Key"].endswith("/")]
    if not chosen:
        raise DataError(
            f"There is nothing at {address}.", f"The bucket {bucket} has no object of that name, and none below it.",
            f"Look with: aws s3 ls {SCHEME}{bucket}/",
        )  # fmt: skip
    start = len(prefix.rpartition("/")[0]) + 1 if single and "/" in prefix else 0 if single else len(below)
    return Listing(bucket, prefix, region, tuple(_object(row, start, address) for row in chosen), bool(single))


def region_of(cloud: Cloud, bucket: str) -> str:
    """Where a bucket lies; raises DataError where there is none, DeniedError where it is another's."""
    answer = cloud.ask("s3", "head_bucket", absent=("404", "NoSuchBucket"), Bucket=bucket)
    if not answer:
        raise DataError(
            f"There is no bucket {bucket}.", "DATA in S3 is s3://BUCKET/PREFIX.", "Check its name: aws s3 ls"
        )
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    return str(answer.get("BucketRegion") or headers.get("x-amz-bucket-region") or cloud.region)


def _object(row: dict[str, Any], start: int, address: str) -> Object:
    name = row["Key"][start:]
    if any(part in ("", ".", "..") or len(part.encode()) > 255 for part in name.split("/")) or "\0" in name:
        raise DataError(
            f"{address} has an object that cannot be a file: {row['Key']!r}.",
            "A key's parts between slashes are names of files and folders.", "Rename or leave out that object.",
        )  # fmt: skip
    return Object(name, row["Key"], row["Size"], row["ETag"].strip('"'), int(row["LastModified"].timestamp()))


def local_copy(address: str, console: Console) -> Path:
    """The folder or file that holds what lies at an address, in the kit's cache, brought up to date first.

    A file's time is that of its object, so that an unchanged copy counts as unchanged data. Raises DataError for
    what is not there or changed meanwhile, DeniedError, and KitError where boto3 is not installed.
    """
    bucket, prefix = parts(address)
    try:
        cloud = Cloud(os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1")
        found = find(cloud, address)
    except KitError as error:
        if "boto3" in error.given:
            raise missing_boto3(f"DATA={address} lies in the bucket {bucket}, and reading it") from None
        raise
    place = cache_folder() / "s3" / f"{bucket}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"
    folder = place / "data" if found.single else place / "data" / (prefix.rpartition("/")[2] or bucket)
    folder.mkdir(parents=True, exist_ok=True)
    with hold(place, "fetch", waiting=functools.partial(say, console)):
        known = _known(place / "index.json")
        wanted = [each for each in found.objects if not _is_current(folder, each, known)]
        _require_room(folder, sum(each.bytes for each in wanted), address)
        changed = sum(each.name in known for each in wanted)
        if wanted:
            told = f", {changed:,} of them changed since they were last fetched" if changed else ""
            say(console, f"{address}: fetching {len(wanted):,} of {len(found.objects):,} objects to {folder}{told}")
        _fetch_all(cloud, found, wanted, folder)
        for name in known.keys() - {each.name for each in found.objects}:
            (folder / name).unlink(missing_ok=True)  # the kit fetched it, and the bucket has it no more
        write_json(place / "index.json", {each.name: each.etag for each in found.objects})
    return folder / found.objects[0].name if found.single else folder


def upload(cloud: Cloud, bucket: str, given: str, console: Console) -> str:
    """Copy a folder or a file into a bucket, and return its address there; what is there already is not sent again."""
    root = Path(given)
    files = sorted(each for each in root.rglob("*") if each.is_file()) if root.is_dir() else [root]
    base = root if root.is_dir() else root.parent
    stamps = [(str(each.relative_to(base)), *file_stamp(each)) for each in files]
    prefix = f"data/{stamps_digest(stamps)[:16]}/{root.resolve().name}"
    rows = cloud.listed("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=prefix)
    there = {row["Key"]: row["Size"] for row in rows}
    keys = [f"{prefix}/{name}" if root.is_dir() else prefix for name, _, _ in stamps]
    missing = [
        (path, key) for path, key, (_, size, _) in zip(files, keys, stamps, strict=True) if there.get(key) != size
    ]  # fmt: skip
    if missing:
        say(console, f"Uploading {len(missing):,} of {len(files):,} files of {given} to {SCHEME}{bucket}/{prefix}")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for sent in [pool.submit(cloud.upload, path, bucket, key) for path, key in missing]:
                sent.result()
    return f"{SCHEME}{bucket}/{prefix}"


def restore(cloud: Cloud, bucket: str, prefix: str, target: Path) -> int:
    """Copy what a run keeps below `prefix` into a folder; returns how many files it is, 0 where nothing was kept.

    The kit's cache stays there: demo data and the like, which another instance goes on with. Files that are there with
    the same content stay untouched. Raises DataError for names that lead elsewhere and for
    content that is not the one that was kept.
    """
    gone = ("NoSuchKey", "NoSuchBucket")
    pointer = cloud.ask("s3", "get_object", Bucket=bucket, Key=f"{prefix}/latest.json", absent=gone)
    if not pointer:
        return 0
    manifest = json.loads(pointer["Body"].read())["manifest"]
    if manifest is None:
        return 0
    kept = json.loads(cloud.ask("s3", "get_object", Bucket=bucket, Key=f"{prefix}/{manifest}")["Body"].read())
    files = {name: facts for name, facts in kept.items() if not name.startswith(".cache/")}
    for name, facts in files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DataError(f"The run in {SCHEME}{bucket}/{prefix} names a file outside of it: {name!r}.")
        path = target / name
        if path.is_file() and sha256(path) == facts["sha256"]:
            continue
        answer = cloud.ask("s3", "get_object", Bucket=bucket, Key=f"{prefix}/blobs/{facts['sha256']}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with _beside(path) as (descriptor, temporary):
            with os.fdopen(descriptor, "wb") as stream:
                for piece in answer["Body"].iter_chunks(PIECE):
                    stream.write(piece)
            if sha256(Path(temporary)) != facts["sha256"]:
                raise DataError(f"{name} of {SCHEME}{bucket}/{prefix} is damaged.", remedy="Run the command again.")
            os.utime(temporary, ns=(facts["mtime_ns"], facts["mtime_ns"]))
            os.replace(temporary, path)
    return len(files)


def _known(record: Path) -> dict[str, str]:
    """Name -> mark of what was fetched before; names that lead elsewhere are not the kit's."""
    with contextlib.suppress(OSError, DamagedFileError):
        value = read_json(record)
        if isinstance(value, dict):
            return {name: mark for name, mark in value.items() if ".." not in PurePosixPath(name).parts}
    return {}


def _is_current(folder: Path, each: Object, known: dict[str, str]) -> bool:
    with contextlib.suppress(OSError):
        status = (folder / each.name).stat()
        return known.get(each.name) == each.etag and (status.st_size, int(status.st_mtime)) == (
            each.bytes, each.changed
        )  # fmt: skip
    return False


def _require_room(folder: Path, needed: int, address: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{address} needs {needed / 1e9:,.1f} GB, and the disk of {folder} has {free / 1e9:,.1f} GB left.",
            "DATA in S3 is copied to the kit's cache.", "Set CHALLENGE_KIT_CACHE to a folder on a larger disk.",
        )  # fmt: skip


def _fetch_all(cloud: Cloud, listing: Listing, wanted: Sequence[Object], folder: Path) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for done in [pool.submit(_fetch, cloud, listing, each, folder) for each in wanted]:
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(cloud: Cloud, listing: Listing, each: Object, folder: Path) -> None:
    """Copy an object, whole or not at all."""
    where = f"{SCHEME}{listing.bucket}/{each.key}"
    try:
        answer = cloud.ask(
            "s3", "get_object", Bucket=listing.bucket, Key=each.key, IfMatch=f'"{each.etag}"', region=listing.region,
            absent=("NoSuchKey", "404", "PreconditionFailed", "412"),
        )  # fmt: skip
    except DeniedError as error:
        raise DataError(
            f"{where} may not be read.", f"These credentials lack {error.action} for it.",
            "Ask the bucket's owner for it, or leave that object out.",
        ) from error  # fmt: skip
    if not answer:
        raise _moved(cloud, listing, each, where)
    target = folder / each.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with _beside(target) as (descriptor, temporary):
        with os.fdopen(descriptor, "wb") as stream:
            for piece in answer["Body"].iter_chunks(PIECE):
                stream.write(piece)
        os.utime(temporary, (each.changed, each.changed))
        os.replace(temporary, target)


def _moved(cloud: Cloud, listing: Listing, each: Object, where: str) -> DataError:
    gone = not cloud.ask(
        "s3", "head_object", Bucket=listing.bucket, Key=each.key, region=listing.region, absent=("404", "NoSuchKey")
    )
    return DataError(
        f"{where} {'is missing: it was deleted' if gone else 'was changed'} while it was being fetched.",
        "What is trained on has to stay as it is meanwhile.", "Run the same command again once nobody writes it.",
    )  # fmt: skip


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[tuple[int, str]]:
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, suffix=".part")
    try:
        yield descriptor, temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
