"""S3 servers for tests, started as own processes on loopback and ended by their own ids."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import boto3
from botocore.client import Config

BUCKET = "nightforge"
CEPH_PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 10.0

CEPH_CONFIG = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}
mon initial members = a
public addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {folder}/$name.keyring
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon warn on pool no redundancy = false
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{rgw_port}
rgw dns name = 127.0.0.1
rgw thread pool size = 32
"""


@dataclass(frozen=True)
class S3Server:
    """A running server: the address and a pair of credentials that owns the bucket `nightforge`."""

    endpoint: str
    access_key: str
    secret_key: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self) -> None:
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
        client.create_bucket(Bucket=BUCKET)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def moto_server(folder: Path) -> Iterator[S3Server]:
    """Start moto's server: a mock in memory that enforces create-only writes and checks no signature."""
    port = free_port()
    server = S3Server(f"http://127.0.0.1:{port}", "test", "test")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _process(command, folder / "moto.log"):
        _wait_until(lambda: _answers(server.endpoint), folder / "moto.log")
        server.make_bucket()
        yield server


def missing_ceph_programs() -> list[str]:
    return [name for name in CEPH_PROGRAMS if shutil.which(name) is None]


@contextmanager
def ceph_server(folder: Path) -> Iterator[S3Server]:
    """Start Ceph's S3 gateway on one monitor and one in-memory OSD, with cephx on and signatures checked."""
    fsid, port = str(uuid.uuid4()), free_port()
    server = S3Server(f"http://127.0.0.1:{port}", "nightforge-key", uuid.uuid4().hex)
    config = folder / "ceph.conf"
    mon_port = free_port()
    config.write_text(CEPH_CONFIG.format(fsid=fsid, folder=folder, mon_port=mon_port, rgw_port=port))
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()

    def call(program: str, *words: str) -> str:
        command = (
            [program, *words] if program in {"ceph-authtool", "monmaptool"} else [program, "-c", str(config), *words]
        )
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_TIMEOUT_S)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} exited with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout.strip()

    monitors, admin = str(folder / "monmap"), str(folder / "client.admin.keyring")
    caps = ("--cap", "mon", "allow *", "--cap", "osd", "allow *")
    call("ceph-authtool", "--create-keyring", admin, "--gen-key", "-n", "client.admin", *caps)
    mon_keyring = str(folder / "mon.keyring")
    call("ceph-authtool", "--create-keyring", mon_keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    call("ceph-authtool", mon_keyring, "--import-keyring", admin)
    call("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", monitors)
    call("ceph-mon", "--mkfs", "-i", "a", "--monmap", monitors, "--keyring", mon_keyring)
    with ExitStack() as running:
        running.enter_context(_process(["ceph-mon", "-c", str(config), "-f", "-i", "a"], folder / "mon.out"))
        osd = str(uuid.uuid4())
        call("ceph", "--connect-timeout", "60", "osd", "new", osd)
        for name, mon_cap, osd_cap in (
            ("osd.0", "allow profile osd", "allow *"),
            ("client.rgw", "allow rw", "allow rwx"),
        ):
            keyring = call("ceph", "auth", "get-or-create", name, "mon", mon_cap, "osd", osd_cap)
            (folder / f"{'osd/keyring' if name == 'osd.0' else 'client.rgw.keyring'}").write_text(keyring + "\n")
        osd_words = ["-i", "0", "--keyring", str(folder / "osd/keyring")]
        call("ceph-osd", *osd_words, "--mkfs", "--osd-uuid", osd)
        running.enter_context(_process(["ceph-osd", "-c", str(config), "-f", *osd_words], folder / "osd.out"))
        owner = ["user", "create", "--uid", "nightforge", "--display-name", "nightforge"]
        keys = ["--access-key", server.access_key, "--secret-key", server.secret_key]
        call("radosgw-admin", "-n", "client.rgw", *owner, *keys)
        running.enter_context(_process(["radosgw", "-c", str(config), "-f", "-n", "client.rgw"], folder / "rgw.out"))
        _wait_until(lambda: _answers(server.endpoint), folder / "rgw.out")
        server.make_bucket()
        yield server


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ})
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2):
            return True
    except URLError as error:
        return hasattr(error, "code")  # an HTTP error is an answer
    except OSError:
        return False


def _wait_until(ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)
