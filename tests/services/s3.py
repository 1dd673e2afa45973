"""A throw-away S3 server for the tests: one Ceph node (monitor, object store in memory, gateway) on loopback."""

import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.processes import free_port, spawn, stop, wait_until

BINARIES = ("ceph-mon", "ceph-osd", "ceph", "monmaptool", "radosgw", "radosgw-admin")
ACCESS_KEY, SECRET_KEY = "TESTACCESS", "TESTSECRET"

# No authentication inside the cluster: it listens on loopback only and lives for one test run. One object store keeps one
# copy, pools need a single group, and the gateway must accept the region that clients send with a new bucket.
CONFIGURATION = """
[global]
fsid = {cluster}
auth cluster required = none
auth service required = none
auth client required = none
mon host = {monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
run dir = {folder}/run
pid file = {folder}/run/$name.pid
log file = {folder}/log/$name.log
admin socket = {folder}/run/$name.asok
mon allow pool size one = true
mon max pg per osd = 1000
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0

[mon.a]
mon data = {folder}/monitor
mon data avail crit = 1

[osd.0]
osd data = {folder}/objects
osd objectstore = memstore
memstore device bytes = 2147483648
osd numa auto affinity = false

[client.gateway]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw dns name = localhost
rgw relaxed region enforcement = true
rgw enable usage log = false
rgw thread pool size = 16
"""


def missing_binaries() -> list[str]:
    """Programs this server needs that are not installed."""
    return [name for name in BINARIES if shutil.which(name) is None]


@contextmanager
def serve_s3(folder: Path) -> Iterator[str]:
    """The endpoint of a running server, stopped at the end of the block."""
    for name in ("run", "log", "monitor", "objects"):
        (folder / name).mkdir(parents=True)
    port, cluster, monitor = free_port(), str(uuid.uuid4()), f"v1:127.0.0.1:{free_port()}"
    settings = folder / "ceph.conf"
    settings.write_text(CONFIGURATION.format(cluster=cluster, monitor=monitor, folder=folder, port=port))
    log, common, servers = folder / "log" / "output", ["-c", str(settings)], []

    def call(*command: str) -> str:
        done = subprocess.run([*command, *common], capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done.stdout

    def start(*command: str) -> None:
        servers.append(spawn([*command, *common, "-f"], log))

    def objects_up() -> bool:
        # On a busy machine the object store may ask the monitor before it has the cluster's map, and give up.
        if servers[-1].poll() is not None:
            start("ceph-osd", "-i", "0")
        try:
            return "1 up" in call("ceph", "osd", "stat")
        except RuntimeError:  # a monitor that is busy refuses now and then; who waits too long is told by wait_until
            return False

    try:
        map_file = str(folder / "monitors")
        call("monmaptool", "--create", "--fsid", cluster, "--addv", "a", f"[{monitor}]", map_file)
        call("ceph-mon", "--mkfs", "-i", "a", "--monmap", map_file)
        start("ceph-mon", "-i", "a")
        identity = str(uuid.uuid4())
        call("ceph", "--connect-timeout", "30", "osd", "create", identity)
        call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", identity)
        start("ceph-osd", "-i", "0")
        wait_until(objects_up, "the object store of Ceph", log)
        start("radosgw", "-n", "client.gateway")
        wait_until(lambda: _answers(port), "the S3 gateway of Ceph", log)
        keys = ["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]
        call("radosgw-admin", "-n", "client.gateway", "user", "create", "--uid=test", "--display-name=test", *keys)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(servers)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    import tempfile

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="s3-") as scratch, serve_s3(Path(scratch)) as endpoint:
        print(f"{endpoint} after {time.monotonic() - started:.1f} s; Ctrl-C stops it")
        time.sleep(3600)
