"""Is this machine fit for the factory? Every finding is one line: fine, a warning, or a problem with its remedy."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from factory.core.errors import FactoryError
from factory.storage.store import Store

DISTRIBUTION = "corpus-factory"
PYTHONS = ((3, 11), (3, 13))
MEMORY_PER_WORKER = 2 << 30
LOW_DISK = 5 << 30
State = Literal["fine", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    name: str
    state: State
    text: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine(
    recipe_path: str,
    *,
    store: str | None,
    environment: Mapping[str, str],
    quiet: Mapping[str, str],
    workers: int = 0,
) -> Iterator[Finding]:
    """All findings, the quick ones first. Nothing is left behind, and nothing is changed.

    `quiet` are the variables, with their values, by which libraries beside us stop calling home.
    """
    for look in (_python, _packages, _constraints, _compiler):
        yield from look()
    yield from _machine(workers)
    yield from _recipe(recipe_path, store)
    yield from _store(recipe_path, store)
    yield from _kernels(environment)
    yield from _dagster(environment)
    yield from _telemetry(environment, quiet)
    yield from _addresses()
    yield from _gpu()


def _python() -> Iterator[Finding]:
    low, high = PYTHONS
    version = sys.version_info[:2]
    text = f"{platform.python_implementation()} {platform.python_version()}"
    if low <= version <= high:
        yield Finding("python", "fine", text)
    else:
        yield Finding("python", "problem", f"{text}; 3.11 to 3.13 are meant. Make the environment with one of them.")


def _packages() -> Iterator[Finding]:
    """What the project asks for against what is installed."""
    from packaging.requirements import Requirement

    try:
        asked = [Requirement(line) for line in importlib.metadata.requires(DISTRIBUTION) or []]
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", "problem", f"{DISTRIBUTION} is not installed. Run: pip install -e .")
        return
    wrong, checked = [], 0
    for requirement in asked:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        checked += 1
        found = _version(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement} (found: {found or 'none'})")
    if wrong:
        yield Finding("packages", "problem", f"{'; '.join(wrong)}. Run: pip install -c constraints.txt -e .")
    else:
        yield Finding("packages", "fine", f"{checked} requirements of {DISTRIBUTION} are met")


def _constraints() -> Iterator[Finding]:
    """Versions that differ from the pinned ones, where the pins are at hand."""
    spec = importlib.util.find_spec("factory")
    folder = os.path.dirname(next(iter(spec.submodule_search_locations or [""]))) if spec else ""
    path = os.path.join(folder, "constraints.txt")
    if not os.path.isfile(path):
        return
    with open(path, encoding="utf-8") as stream:
        pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;#]+)", stream.read(), re.MULTILINE)
    off = [
        (name, pin, found)
        for name, pin in pins
        if (found := _version(name)) is not None and found.partition("+")[0] != pin
    ]
    if off:
        shown = ", ".join(f"{name} {found} (pinned {pin})" for name, pin, found in off[:4])
        more = f" and {len(off) - 4} more" if len(off) > 4 else ""
        yield Finding("constraints", "warning", f"{shown}{more}. Run: pip install -c constraints.txt -e .")
    else:
        yield Finding("constraints", "fine", f"{len(pins)} pinned versions, none differs")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _compiler() -> Iterator[Finding]:
    found = next((name for name in ("cc", "gcc", "clang", "c++", "g++") if shutil.which(name)), None)
    if found:
        yield Finding("compiler", "fine", str(shutil.which(found)))
    elif _version("fasttext"):
        yield Finding("compiler", "fine", "none, and none is needed: fasttext is built")
    else:
        yield Finding("compiler", "problem", "none, and fasttext has to be built. Install gcc and g++.")


def _machine(workers: int) -> Iterator[Finding]:
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    running = workers or cores
    memory = psutil.virtual_memory()
    text = f"{cores} cores, {memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB memory free, {running} workers"
    if memory.available < running * MEMORY_PER_WORKER:
        fit = max(1, int(memory.available // MEMORY_PER_WORKER))
        yield Finding("machine", "warning", f"{text}; a worker may need 2 GB. Run with --workers {fit}.")
    else:
        yield Finding("machine", "fine", text)


def _recipe(path: str, store: str | None) -> Iterator[Finding]:
    from factory.recipes.inputs import find_inputs
    from factory.recipes.load import load_recipe

    if not os.path.exists(path):
        yield Finding("recipe", "warning", f"{path} is not there. 'factory init' writes one for your files.")
        return
    try:
        recipe = load_recipe(path, store=store)
        inputs = find_inputs(recipe, Store(recipe.store))
    except FactoryError as error:
        yield Finding("recipe", "problem", str(error))
        return
    files = sum(len(found) for sources in inputs.values() for found in sources.values())
    yield Finding("recipe", "fine", f"{recipe.name}: {len(inputs)} snapshots, {files:,} input files, no mistakes")


def _store(recipe_path: str, place: str | None) -> Iterator[Finding]:
    """Writes, put-if-absent and replacing, tried out; and room on its disk."""
    from factory.recipes.load import load_recipe

    try:
        store = Store(place or load_recipe(recipe_path).store)
        yield Finding("store", "fine", f"{store.url}: {_try_out(store)}")
        if store.local:
            free = shutil.disk_usage(store.root).free
            state: State = "warning" if free < LOW_DISK else "fine"
            yield Finding("disk", state, f"{free / 1e9:.1f} GB free at {store.root}")
    except FactoryError as error:
        if os.path.exists(recipe_path) or place:
            yield Finding("store", "problem", str(error))


def _try_out(store: Store) -> str:
    """Raises FactoryError where the store breaks one of the promises everything rests on."""
    name = f"doctor-{secrets.token_hex(6)}"
    try:
        if not store.put_new(name, b"first") or store.put_new(name, b"second") or store.read(name) != b"first":
            raise FactoryError(
                f"{store.url}: put-if-absent does not work here, so two runs could both win. Use a local folder, or an S3 "
                "service that honours If-None-Match."
            )
        store.put(name, b"third")
        if store.read(name) != b"third":
            raise FactoryError(f"{store.url}: what was written is not what is read. Choose another store.")
    finally:
        store.delete(name)
    return "can be written, put-if-absent and replacing work"


def _kernels(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Compiled loops are kept on disk; where they cannot be, every worker compiles them again."""
    spec = importlib.util.find_spec("factory.kernels")
    own = os.path.join(next(iter(spec.submodule_search_locations or [""])), "__pycache__") if spec else ""
    folder = environment.get("NUMBA_CACHE_DIR") or own
    there = folder if os.path.isdir(folder) else os.path.dirname(folder)
    if os.access(there, os.W_OK):
        yield Finding("numba cache", "fine", folder)
    else:
        yield Finding(
            "numba cache", "warning", f"{folder} cannot be written: set NUMBA_CACHE_DIR to a folder that can."
        )


def _dagster(environment: Mapping[str, str]) -> Iterator[Finding]:
    home = environment.get("DAGSTER_HOME")
    if not home:
        yield Finding("dagster home", "fine", "not set: each store keeps its own")
        return
    if not os.path.isabs(home) or not os.path.isdir(home):
        yield Finding("dagster home", "problem", f"DAGSTER_HOME={home} is not an existing absolute folder. Make it.")
    elif not os.access(home, os.W_OK):
        yield Finding("dagster home", "problem", f"DAGSTER_HOME={home} cannot be written.")
    else:
        yield Finding("dagster home", "fine", home)


def _telemetry(environment: Mapping[str, str], quiet: Mapping[str, str]) -> Iterator[Finding]:
    loud = [name for name, wanted in quiet.items() if environment.get(name, wanted) != wanted]
    unset = [name for name in quiet if name not in environment]
    if loud:
        yield Finding(
            "telemetry", "warning", f"switched on by {', '.join(loud)}. Unset, and the factory switches it off."
        )
    elif unset:
        yield Finding("telemetry", "warning", f"{', '.join(unset)} not set; commands of the factory set them.")
    else:
        yield Finding("telemetry", "fine", "off in every library beside us")


def _addresses() -> Iterator[Finding]:
    """Servers of ours (the Dagster web server and its code locations) must listen on this machine only."""
    import psutil

    open_to_all, ours = [], 0
    for process in psutil.process_iter(["pid", "cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if not re.search(r"dagster|factory", command):
            continue
        try:
            listening = [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        except psutil.Error:
            continue
        ours += len(listening)
        open_to_all += [
            f"process {process.info['pid']} on {c.laddr.ip}:{c.laddr.port}"
            for c in listening
            if not (c.laddr.ip.startswith("127.") or c.laddr.ip in ("::1", "::ffff:127.0.0.1"))
        ]
    if open_to_all:
        text = f"{', '.join(open_to_all)}: anybody on the network can reach it. Start it with --host 127.0.0.1."
        yield Finding("addresses", "problem", text)
    else:
        yield Finding("addresses", "fine", f"{ours} listening, on this machine only" if ours else "nothing listens")


def _gpu() -> Iterator[Finding]:
    if not shutil.which("nvidia-smi"):
        yield Finding("gpu", "fine", "none: proxies train on the CPU")
        return
    torch: Any = importlib.import_module("torch")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        yield Finding("gpu", "fine", f"{', '.join(names)} (torch {torch.__version__})")
    else:
        yield Finding(
            "gpu", "warning", f"nvidia-smi is there, but torch {torch.__version__} finds no CUDA: the CPU is used."
        )
