"""A store: files below one fsspec URL, written whole or not at all.

Two promises carry everything else. `put` and `put_file` make a file appear complete under its name or not at all; of
several `put_new` for one name exactly one returns True. A local folder keeps them with a temporary name, fsync and
rename or link; S3 with single PUTs, completed multipart uploads and If-None-Match.
"""

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from factory.core.errors import FactoryError, StoreError

TEMPORARY = ".tmp-"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PRECONDITION_FAILED, CONFLICT = 412, 409


class Store:
    """Files by path relative to the store's root, with forward slashes."""

    def __init__(self, url: str) -> None:
        # Listings are never cached: a long-lived process (a sensor, a daemon) must see what others wrote.
        options: dict[str, Any] = {"use_listings_cache": False} if "://" in url and not url.startswith("file:") else {}
        try:
            self.fs, root = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            raise StoreError(
                f"store '{url}': {error}. A folder, s3://bucket/prefix or another fsspec URL is meant."
            ) from error
        self.url = url
        self.local = isinstance(self.fs, LocalFileSystem)
        self.root = os.path.abspath(root) if self.local else root.rstrip("/")

    def full(self, path: str) -> str:
        if path.startswith("/") or ".." in path.split("/"):
            raise StoreError(f"'{path}' would leave the store {self.url}")
        return f"{self.root}/{path}" if path else self.root

    # --- reading

    def read(self, path: str) -> bytes:
        """The bytes of a file; raises FileNotFoundError."""
        with self._explain("read", path):
            return cast(bytes, self.fs.cat_file(self.full(path)))

    def open(self, path: str) -> BinaryIO:
        """A seekable stream; ranges are fetched as they are read."""
        with self._explain("read", path):
            return cast(BinaryIO, self.fs.open(self.full(path), "rb"))

    def size(self, path: str) -> int | None:
        """Bytes of a file, None when it is not there."""
        with self._explain("read", path):
            try:
                return int(self.fs.info(self.full(path))["size"])
            except FileNotFoundError:
                return None

    def files(self, prefix: str = "") -> dict[str, int]:
        """Path and size of every finished file below a folder, sorted."""
        with self._explain("list", prefix):
            if self.local:
                found = _local_sizes(self.full(prefix))
            else:
                found = {name: info["size"] for name, info in self.fs.find(self.full(prefix), detail=True).items()}
        files = {name[len(self.root) + 1 :]: int(size) for name, size in found.items()}
        return {name: files[name] for name in sorted(files) if TEMPORARY not in name}

    @contextlib.contextmanager
    def as_local(self, *paths: str) -> Iterator[list[str]]:
        """Local file names with the content of these files, for libraries that only open paths (memory maps, models)."""
        if self.local:
            yield [self.full(path) for path in paths]
            return
        with tempfile.TemporaryDirectory(prefix="factory-") as folder:
            names = []
            for path in paths:
                stored, name = self.full(path), os.path.join(folder, path)
                os.makedirs(os.path.dirname(name), exist_ok=True)
                with self._explain("read", path):
                    self.fs.get_file(stored, name)
                names.append(name)
            yield names

    # --- writing

    def put(self, path: str, data: bytes) -> None:
        """Write or replace a small file, atomically."""
        with self._explain("write", path):
            if not self.local:
                self.fs.pipe_file(self.full(path), data)
                return
            with self._temporary(path) as name:
                _write_synced(name, data)
                os.replace(name, self.full(path))

    def put_new(self, path: str, data: bytes) -> bool:
        """Write a small file unless it is there; True for the one writer that made it."""
        with self._explain("write", path):
            if not self.local:
                return self._create(path, data)
            with self._temporary(path) as name:
                _write_synced(name, data)
                try:
                    os.link(name, self.full(path))
                except FileExistsError:
                    return False
                return True

    def put_file(self, path: str, local_name: str) -> None:
        """Publish a finished local file under a name of the store; the local file may be moved away."""
        with self._explain("write", path):
            if not self.local:
                self.fs.put_file(local_name, self.full(path))
                return
            with open(local_name, "rb") as handle:
                os.fsync(handle.fileno())
            self._move(path, local_name)

    def put_passing(self, path: str, local_name: str) -> None:
        """`put_file` for what is read and deleted within one run: it appears whole, and need not survive a power cut."""
        with self._explain("write", path):
            if self.local:
                self._move(path, local_name)
            else:
                self.fs.put_file(local_name, self.full(path))

    def _move(self, path: str, local_name: str) -> None:
        os.makedirs(os.path.dirname(self.full(path)), exist_ok=True)
        try:
            os.replace(local_name, self.full(path))
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with self._temporary(path) as name:
                shutil.copyfile(local_name, name)
                os.replace(name, self.full(path))

    @contextlib.contextmanager
    def scratch(self) -> Iterator[str]:
        """A local folder for files on their way into the store; on the same disk where the store is local."""
        base = None
        if self.local:
            base = f"{self.root}/{TEMPORARY}scratch"
            with self._explain("write", ""):
                os.makedirs(base, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(dir=base, prefix=f"{os.getpid()}-") as folder:
                yield folder
        except OSError as error:
            # Only what can be nothing but this disk: inputs are read inside the block, too.
            if error.errno in FULL:
                raise _store_error("write", base or tempfile.gettempdir(), error) from error
            raise

    def delete(self, path: str) -> None:
        """Remove one file; a file that is not there is fine."""
        with self._explain("delete", path), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.full(path))

    def modified(self, prefix: str = "") -> dict[str, float]:
        """When each finished file below a folder was last written, in seconds since 1970; files without a time are left out."""
        with self._explain("list", prefix):
            found = self.fs.find(self.full(prefix), detail=True) if self.fs.exists(self.full(prefix)) else {}
        times = {}
        for name, info in found.items():
            when = info.get("mtime") or info.get("LastModified") or info.get("created")
            if when is not None and TEMPORARY not in name:
                times[name[len(self.root) + 1 :]] = float(when.timestamp() if hasattr(when, "timestamp") else when)
        return times

    def stale_temporaries(self, older_than: float) -> dict[str, int]:
        """Temporary files last written before this time, as full names with their sizes."""
        return {
            name: os.path.getsize(name)
            for name, when in self.temporaries()
            if when <= older_than and os.path.isfile(name)
        }

    def delete_temporaries(self, names: Iterable[str]) -> None:
        """Remove temporary files of a local store, and the folders that become empty."""
        for name in names:
            if TEMPORARY not in name[len(self.root) :] or not name.startswith(f"{self.root}/"):
                raise StoreError(f"'{name}' is no temporary file of the store {self.url}")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            folder = os.path.dirname(name)
            while TEMPORARY in folder[len(self.root) :]:
                try:
                    os.rmdir(folder)
                except OSError:
                    break
                folder = os.path.dirname(folder)

    def temporaries(self) -> Iterator[tuple[str, float]]:
        """Leftovers of dead attempts in a local store: full name and modification time."""
        if self.local:
            for folder, folders, files in os.walk(self.root):
                for name in [*files, *folders]:
                    full = os.path.join(folder, name)
                    if TEMPORARY in full[len(self.root) :] and os.path.exists(full):
                        yield full, os.stat(full).st_mtime

    def _create(self, path: str, data: bytes) -> bool:
        for pause in (0.1, 0.3, 1.0, 3.0, None):
            try:
                self.fs.pipe_file(self.full(path), data, mode="create")
                return True
            except FileExistsError:
                return False
            except OSError as error:
                # s3fs knows a lost race by a field that only AWS sends; others say it by the status alone.
                status = _http_status(error)
                if status == PRECONDITION_FAILED:
                    return False
                if status != CONFLICT or pause is None:
                    raise
                time.sleep(pause)
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def _temporary(self, path: str) -> Iterator[str]:
        final = Path(self.full(path))
        final.parent.mkdir(parents=True, exist_ok=True)
        name = str(final.parent / f"{TEMPORARY}{secrets.token_hex(6)}-{final.name}"[:200])
        try:
            yield name
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)

    @contextlib.contextmanager
    def _explain(self, verb: str, path: str) -> Iterator[None]:
        where = f"{self.url}/{path}" if path else self.url
        try:
            yield
        except FactoryError:
            raise
        except (FileNotFoundError, FileExistsError) as error:
            # To a reader a missing file is an answer; a writer misses its bucket, or finds a file where a folder should be.
            if verb != "write":
                raise
            raise _store_error(verb, where, error) from error
        except OSError as error:
            raise _store_error(verb, where, error) from error
        except Exception as error:
            # Clients of remote stores have errors of their own for keys, names and networks.
            if self.local:
                raise
            raise StoreError(f"cannot {verb} {where}: {type(error).__name__}: {error}.") from error


def _store_error(verb: str, where: str, error: OSError) -> StoreError:
    if isinstance(error, PermissionError):
        return StoreError(f"cannot {verb} {where}: permission denied. Choose another store or change its rights.")
    hint = " The disk is full: free space and run again; finished parts are kept." if error.errno in FULL else ""
    words = error.strerror or str(error)
    if words == "None":  # a server that sends a code and no message
        words = str(error.__cause__)
    return StoreError(f"cannot {verb} {where}: {words}.{hint}")


def _http_status(error: OSError) -> int | None:
    response = getattr(error.__cause__, "response", None) or {}
    status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def _local_sizes(folder: str) -> dict[str, int]:
    sizes = {}
    for where, folders, names in os.walk(folder, onerror=_refuse_unreadable):
        folders[:] = [name for name in folders if TEMPORARY not in name]
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                full = os.path.join(where, name)
                sizes[full] = os.stat(full).st_size
    return sizes


def _refuse_unreadable(error: OSError) -> None:
    # A folder that cannot be read must not look like an empty one.
    if not isinstance(error, FileNotFoundError):
        raise error


def _write_synced(name: str, data: bytes) -> None:
    with open(name, "xb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
