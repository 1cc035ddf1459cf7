#!/usr/bin/env python3
"""What a rented instance does: fetch code and data, train, keep the run in S3, leave when it is told or done.

The launcher sends it as user data with CONFIG filled in. Only the standard library and the AWS CLI are needed.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

CONFIG = "{}"
METADATA = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")
NOTICES = ("spot/instance-action", "events/recommendations/rebalance")
PATIENCE = 75  # seconds to stop within; a notice comes two minutes ahead
COPIED = 64 << 20  # bytes: smaller files are copied before they are sent, since logs grow meanwhile


class Store:
    """The run's folder in S3, through the AWS CLI."""

    def __init__(self, told):
        self.told, self.url = told, f"s3://{told['bucket']}/runs/{told['name']}"

    def aws(self, *words, data=None, check=True):
        command = ["aws", "--region", self.told["region"], *words]
        answer = subprocess.run(command, input=data, capture_output=True)
        if check and answer.returncode:
            raise OSError(f"{' '.join(command[3:6])}: {answer.stderr.decode(errors='replace').strip()[-300:]}")
        return answer

    def copy(self, source, target, *options):
        self.aws("s3", "cp", "--only-show-errors", *options, str(source), str(target))

    def put(self, name, text):
        self.aws("s3", "cp", "--only-show-errors", "-", f"{self.url}/{name}", data=text.encode())

    def get(self, name):
        """The text of an object, or None where there is none. Raises OSError where it cannot be known."""
        answer = self.aws("s3", "cp", "--only-show-errors", f"{self.url}/{name}", "-", check=False)
        if answer.returncode == 0:
            return answer.stdout.decode()
        if b"404" in answer.stderr or b"NoSuchKey" in answer.stderr:
            return None
        raise OSError(f"{name}: {answer.stderr.decode(errors='replace').strip()[-300:]}")

    def remove(self, name):
        self.aws("s3", "rm", "--only-show-errors", f"{self.url}/{name}", check=False)


class Keeper:
    """The run's files in S3: contents first, then the list of them, and last the pointer to that list."""

    def __init__(self, store, runs, stage):
        self.store, self.runs, self.stage = store, runs, stage
        self.files, self.names, self.present, self.lock = {}, [], set(), threading.Lock()

    def restore(self):
        """Fetch what the newest list names; returns how many files that are."""
        pointer = self.store.get("latest.json")
        name = json.loads(pointer)["manifest"] if pointer else None
        if name is None:
            return 0
        self.files, self.names = json.loads(self.store.get(name)), [name]
        blobs = self.empty()
        self.store.copy(f"{self.store.url}/blobs/", blobs, "--recursive")
        for path, facts in self.files.items():
            source, target = blobs / facts["sha256"], self.runs / path
            if digest(source) != facts["sha256"] or ".." in target.parts:
                raise OSError(f"{path} came back damaged from S3")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            os.utime(target, ns=(facts["mtime_ns"], facts["mtime_ns"]))
        self.present = {path.name for path in blobs.iterdir()}
        shutil.rmtree(blobs)
        return len(self.files)

    def keep(self):
        """Send what changed; an earlier state stays whole until the pointer is moved."""
        with self.lock:
            folder = self.empty()
            for _ in range(5):
                try:
                    files = self.capture(folder)
                    break
                except FileNotFoundError:  # a checkpoint made way for a newer one meanwhile
                    folder = self.empty()
            else:
                return False
            if files == self.files:
                return False
            if any(folder.iterdir()):
                self.store.copy(folder, f"{self.store.url}/blobs/", "--recursive")
            for path in folder.iterdir():  # a hard link to a file that was written in place meanwhile
                if digest(path) != path.name:
                    raise OSError("a file changed while it was sent")
            name = f"manifests/{time.time_ns()}.json"
            self.store.put(name, json.dumps(files))
            self.store.put("latest.json", json.dumps({"manifest": name}))
            used = {facts["sha256"] for facts in (*files.values(), *self.files.values())}
            self.present |= {path.name for path in folder.iterdir()}
            for stale in self.present - used:
                self.store.remove(f"blobs/{stale}")
            self.present &= used
            self.files = files
            self.names.append(name)
            while len(self.names) > 2:
                self.store.remove(self.names.pop(0))
            shutil.rmtree(folder)
            return True

    def capture(self, folder):
        """The run's files as they are now, those that S3 lacks laid into `folder` by their digests."""
        sent, files = {facts["sha256"] for facts in self.files.values()}, {}
        for path in sorted(path for path in self.runs.rglob("*") if path.is_file() and not passing(path.name)):
            status, name = path.stat(), str(path.relative_to(self.runs))
            facts = self.files.get(name, {})
            if (facts.get("size"), facts.get("mtime_ns")) == (status.st_size, status.st_mtime_ns):
                files[name] = facts
                continue
            held = folder / "held"
            if status.st_size < COPIED:
                shutil.copyfile(path, held)
            else:
                os.link(path, held)
            mark = digest(held)
            files[name] = {"sha256": mark, "size": held.stat().st_size, "mtime_ns": status.st_mtime_ns}
            if mark in sent:
                held.unlink()
            else:
                held.replace(folder / mark)
        return files

    def empty(self):
        shutil.rmtree(self.stage, ignore_errors=True)
        self.stage.mkdir(parents=True)
        return self.stage


class Guest:
    """One instance's part of a run."""

    def __init__(self, told):
        self.told, self.store = told, Store(told)
        self.root = Path(told["root"])
        self.log = self.root / "log.txt"
        self.stopped = None
        self.over = threading.Event()

    def main(self):
        told = self.told
        os.environ.setdefault("HOME", "/root")
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopped", "stopped from outside"))
        minutes = max(1, int((told["ends"] - time.time()) / 60) + 1)
        subprocess.run([*told["off"], f"+{minutes}"], check=False)
        self.root.mkdir(parents=True, exist_ok=True)
        disk, until = Path(told["nvme"]), time.time() + told["nvme_seconds"]
        while not disk.is_mount() and time.time() < until:  # a service of the image's mounts it
            time.sleep(1)
        if disk.is_mount():
            (disk / "kit").mkdir(exist_ok=True)
            subprocess.run(["mount", "--bind", str(disk / "kit"), str(self.root)], check=True)
        self.number, self.born = str(metadata("instance-id") or "unknown"), int(time.time())
        threading.Thread(target=self.send_log, daemon=True).start()
        try:
            end = self.work()
        except Exception as error:
            self.say(f"failed: {type(error).__name__}: {error}")
            end = "failed"
        self.leave(end)

    def work(self):
        """Fetch, train, keep; returns how it ended."""
        for pause in self.told.get("pauses", (10, 20, 40, 80, 0)):
            try:
                before = json.loads(self.store.get("state.json") or "{}")
                if before.get("launch") == self.told["launch"] and before["state"] in ("done", "failed", "out of time"):
                    return before["state"]
                self.tell("fetching")
                code = self.fetch()
                break
            except OSError as error:  # the role may be younger than the instance
                self.say(f"not fetched: {error}")
                if not pause:
                    raise
                time.sleep(pause)
        failures = 0
        while True:
            self.tell("training")
            seen = self.newest()
            end = self.train(code)
            if end != "failure":
                return end
            failures = failures + 1 if self.newest() == seen else 1
            if failures >= self.told["attempts"]:
                return "failed"
            self.say(f"the command failed ({failures} of {self.told['attempts']} without a new checkpoint); once more")

    def fetch(self):
        """Bring code, the run so far and the data; returns the code's folder."""
        told, code = self.told, self.root / "code"
        self.store.aws("configure", "set", "default.s3.max_concurrent_requests", "64", check=False)
        self.store.copy(f"{self.store.url}/code.tar.gz", self.root / "code.tar.gz")
        shutil.unpack_archive(self.root / "code.tar.gz", code, filter="data")
        (code / "runs").mkdir(exist_ok=True)
        keeper = Keeper(self.store, code / "runs", self.root / "stage")
        self.say(f"{self.number}: {keeper.restore()} files of the run fetched")
        self.keeper = keeper  # only now: what was not fetched must not be replaced
        if told["data"]:
            inside = self.root / Path(told["inside"]).relative_to("/kit")
            inside.parent.mkdir(parents=True, exist_ok=True)
            fetch = [sys.executable, "-m", "containers.fetch", told["data"], str(inside), "--download"]
            with self.log.open("ab") as log:
                region = {**os.environ, "AWS_DEFAULT_REGION": told["region"], "AWS_REGION": told["region"]}
                if subprocess.run(fetch, cwd=code, stdout=log, stderr=log, env=region).returncode:
                    raise OSError("DATA did not come whole")
        return code

    def train(self, code):
        """Run the command until it ends or must end, keeping what it wrote every so often."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.told["command"], cwd=code, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        keeping = threading.Thread(target=self.keep_on, args=(process,), daemon=True)
        keeping.start()
        end = None
        while process.poll() is None and end is None:
            notice = next((name for name in NOTICES if metadata(name) is not None), None)
            if self.stopped or notice:
                end = "interrupted"
                self.say(f"leaving: {self.stopped or notice}")
            elif time.time() > self.told["ends"] - self.told["closing"]:
                end = "out of time"
            else:
                try:
                    process.wait(self.told["poll"])
                except subprocess.TimeoutExpired:
                    continue
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return end or ("done" if process.returncode == 0 else "failure")

    def keep_on(self, process):
        last = time.time()
        while process.poll() is None:
            time.sleep(min(1, self.told["upload"]))
            if time.time() - last >= self.told["upload"]:
                try:
                    self.keeper.keep()
                except OSError as error:
                    self.say(f"not kept, tried again in {self.told['upload']} s: {error}")
                last = time.time()

    def newest(self):
        return sorted(str(path) for path in (self.root / "code" / "runs").rglob("checkpoints/step-*"))

    def leave(self, end):
        """Keep all, tell how it ended, empty the group where it is over, and switch off."""
        for attempt in range(3):
            try:
                if hasattr(self, "keeper"):
                    self.keeper.keep()
                self.say(f"{self.number}: {end}")
                self.over.set()
                self.send_once()
                self.tell(end)
                if end != "interrupted":
                    self.empty_group()
                break
            except OSError as error:
                self.say(f"attempt {attempt + 1} to leave: {error}")
                time.sleep(5)
        subprocess.run([*self.told["off"], "now"], check=False)

    def empty_group(self):
        sizes = ("--min-size", "0", "--max-size", "0", "--desired-capacity", "0")
        self.store.aws(
            "autoscaling", "update-auto-scaling-group", "--auto-scaling-group-name", self.told["group"], *sizes
        )

    def tell(self, state):
        facts = {"state": state, "launch": self.told["launch"], "instance": self.number, "time": time.time()}
        self.store.put("state.json", json.dumps(facts))

    def say(self, line):
        with self.log.open("a") as log:
            log.write(f"[{time.strftime('%H:%M:%S', time.gmtime())}] {line}\n")

    def send_log(self):
        size = -1
        while not self.over.wait(5):
            if self.log.is_file() and self.log.stat().st_size != size:
                size = self.log.stat().st_size
                self.send_once()

    def send_once(self):
        if self.log.is_file():
            copy = self.root / "log.sent"
            shutil.copyfile(self.log, copy)
            name = f"log/{self.born}-{self.number}.txt"
            self.store.aws("s3", "cp", "--only-show-errors", str(copy), f"{self.store.url}/{name}", check=False)


def metadata(name):
    """What the instance's own service answers, by its session protocol; None where it has no answer."""
    try:
        lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
        asking = urllib.request.Request(f"{METADATA}/latest/api/token", method="PUT", headers=lifetime)
        with urllib.request.urlopen(asking, timeout=2) as answer:
            token = answer.read().decode()
        headers = {"X-aws-ec2-metadata-token": token}
        request = urllib.request.Request(f"{METADATA}/latest/meta-data/{name}", headers=headers)
        with urllib.request.urlopen(request, timeout=2) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, OSError):
        return None


def passing(name):
    """Whether a file is of the moment only: half written, or a lock."""
    return name.endswith(".part") or name == ".lock" or name.startswith(".held.")


def digest(path):
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


if __name__ == "__main__":
    Guest(json.loads(CONFIG)).main()
    sys.exit()
