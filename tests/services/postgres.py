"""A throw-away PostgreSQL server for the tests, on loopback."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
from services.processes import free_port, spawn, stop, wait_until


def find_programs() -> Path | None:
    """The folder of the newest installed server's programs, or None."""
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = str(packaged[-1]) if packaged else shutil.which("initdb")
    return Path(found).parent if found else None


@contextmanager
def serve_postgres(programs: Path, folder: Path) -> Iterator[str]:
    """The URL of an empty database `dagster`, gone at the end of the block."""
    # The server refuses to run as root; Debian's package makes the user `postgres` for it.
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)
    data, port, log = folder / "data", free_port(), folder / "log"
    as_user = {"user": user, "group": user, "extra_groups": []} if user else {}
    made = subprocess.run(
        [programs / "initdb", "-D", data, "-A", "trust", "-U", "dagster", "--no-sync"],
        cwd=folder,
        capture_output=True,
        text=True,
        **as_user,
    )
    if made.returncode:
        raise RuntimeError(f"initdb: {made.stderr}")
    quick = [f"-c{name}=off" for name in ("fsync", "synchronous_commit", "full_page_writes")]
    where = [f"-p{port}", f"-k{folder}", "-clisten_addresses=127.0.0.1"]
    server = spawn([str(programs / "postgres"), "-D", str(data), *where, *quick], log, user=user)
    address = {"host": "127.0.0.1", "port": port, "user": "dagster"}
    try:
        wait_until(lambda: _answers(address), "PostgreSQL", log)
        connection = psycopg2.connect(dbname="postgres", **address)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("create database dagster")
        connection.close()
        yield f"postgresql://dagster@127.0.0.1:{port}/dagster"
    finally:
        # SIGQUIT makes the parent take its children along; a killed one would leave them and shared memory behind.
        server.send_signal(3)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            stop([server])


def _answers(address: dict[str, object]) -> bool:
    try:
        psycopg2.connect(dbname="postgres", connect_timeout=1, **address).close()
    except psycopg2.OperationalError:
        return False
    return True
