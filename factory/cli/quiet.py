"""Telemetry of every library beside us is off unless somebody switches it on; done before any of them is imported."""

from collections.abc import MutableMapping

QUIET = {
    "DO_NOT_TRACK": "1",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DAFT_ANALYTICS_ENABLED": "0",
}


def hush(environment: MutableMapping[str, str]) -> None:
    """Set what is not set."""
    for name, value in QUIET.items():
        environment.setdefault(name, value)
