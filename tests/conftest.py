"""What all tests share: offline libraries, the real data, and real servers where they are installed.

With FACTORY_TEST_SERVICES=1 a server that is not installed is a failure; otherwise its tests are skipped and say so.
"""

import importlib.util
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent

# Before any library reads them, and inherited by every process a test starts. PYTHONPATH lets workers import worker_tasks.
os.environ.update(
    {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "DO_NOT_TRACK": "1",
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "GX_ANALYTICS_ENABLED": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # keeps a cluster of one node on loopback
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHAINLP_READ_ONLY": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")])),
    }
)
for name in ("COLUMNS", "LINES"):  # readline, which pytest imports, tells them to processes it starts, terminal or not
    os.environ.pop(name, None)
sys.path.insert(0, str(HERE))

from services.postgres import find_programs, serve_postgres  # noqa: E402 (the line above makes it importable)
from services.ray import serve_ray  # noqa: E402
from services.s3 import ACCESS_KEY, SECRET_KEY, missing_binaries, serve_s3  # noqa: E402

# How long an example takes depends on who else is on the machine; whether a law holds does not.
settings.register_profile("factory", deadline=None, print_blob=True)
settings.load_profile("factory")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow") or "slow" in (config.option.markexpr or ""):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; run with --slow"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real crawls, corpora and evaluation sets."""
    folder = Path(os.environ.get("FACTORY_TEST_DATA") or HERE.parents[1] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set FACTORY_TEST_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def s3_store_url() -> Iterator[str]:
    """An empty bucket, `s3://…`, on a server of our own; every library finds it through the environment."""
    missing = missing_binaries()
    if missing:
        _absent(f"no S3 server: {', '.join(missing)} not installed (make services)")
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    try:
        with serve_s3(folder) as endpoint, pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            patch.setenv("AWS_ENDPOINT_URL", endpoint)
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            import boto3

            boto3.client("s3").create_bucket(Bucket="factory")
            yield "s3://factory"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    programs = find_programs()
    if programs is None:
        _absent("no PostgreSQL: initdb not installed (make services)")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        with serve_postgres(programs, folder) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """The address of a Ray cluster of one node with two processors."""
    if importlib.util.find_spec("ray") is None:
        # An extra of the package and no server: never required.
        pytest.skip("ray is not installed (pip install 'corpus-factory[ray]')")
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    try:
        with serve_ray(folder) as address:
            yield address
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def ray_executor(ray_cluster: str):
    from factory.execution.ray import RayExecutor

    with RayExecutor(ray_cluster) as executor:
        yield executor


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.service)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store: every test that uses it runs on a local folder and on S3."""
    if request.param == "local":
        return str(tmp_path / "store")
    return f"{request.getfixturevalue('s3_store_url')}/{uuid.uuid4().hex}"


@pytest.fixture
def store(store_url: str):
    from factory.storage.store import Store

    return Store(store_url)


def _absent(reason: str) -> None:
    if os.environ.get("FACTORY_TEST_SERVICES") == "1":
        pytest.fail(f"{reason}, and FACTORY_TEST_SERVICES=1 asks for it")
    pytest.skip(reason)
