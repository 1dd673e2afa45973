"""What a training run costs: operations by formula, so that figures of different machines compare, and what they took.

Two conventions, both in every record: `flops_6nd` is 6·N·D with all parameters, DCLM's (2406.11794); `flops` counts every
matrix product forward and backward, the output head included and attention causally (2204.02311, half of what counts all
of the square). Utilisation is the second over what the devices could do at most, and null where that is not known.
"""

from typing import Any

from factory.training.scales import Scale

CONVENTION = "6 (non-embedding + head) + 6 layers·width·context per token, causal attention"
# Dense bf16 operations a second, as NVIDIA states them; the longest name that a device's begins with or holds counts.
PEAKS = {
    "H200": 989e12,
    "H100": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "GH200": 989e12,
    "A100": 312e12,
    "A10": 125e12,
    "A10G": 70e12,
    "L4": 121e12,
    "L40S": 362e12,
    "B200": 2250e12,
}


def simple_flops(scale: Scale, vocabulary: int, tokens: int) -> float:
    """6·N·D with N all parameters: the convention of DCLM's table (2406.11794)."""
    return 6.0 * scale.parameters(vocabulary).total * tokens


def exact_flops(scale: Scale, vocabulary: int, tokens: int) -> float:
    """Forward and backward of every matrix product, the output head included, attention counted causally (2204.02311).

    Per token 6 (non-embedding + head) + 6·layers·width·context.
    """
    blocks = scale.parameters(vocabulary).non_embedding
    head = scale.rows(vocabulary) * scale.width
    attention = 6.0 * scale.layers * scale.heads * scale.head_size * scale.context
    return tokens * (6.0 * (blocks + head) + attention)


def peak_flops(device_name: str) -> float | None:
    """What a device of this name does at most in bf16, or None where the table does not know it."""
    words = f" {device_name.replace('-', ' ')} "
    known = [name for name in PEAKS if f" {name} " in words]
    return PEAKS[max(known, key=len)] if known else None


def utilisation(
    flops: float, seconds: float, device_name: str, devices: int, peak: float | None = None
) -> float | None:
    """The share of the devices' peak that was used (MFU); `peak` is one device's where the table does not know it."""
    most = peak or peak_flops(device_name)
    return flops / (seconds * most * devices) if most and seconds > 0 else None


def measured(
    flops: float,
    tokens: int,
    seconds: float,
    *,
    device_name: str,
    devices: int,
    usd_per_hour: float | None = None,
    peak: float | None = None,
) -> dict[str, Any]:
    """What a run took: of a record, the part that another machine would say otherwise. `usd_per_hour` is all devices'."""
    return {
        "seconds": seconds,
        "tokens_per_s": tokens / seconds if seconds > 0 else None,
        "flops_per_s": flops / seconds if seconds > 0 else None,
        "mfu": utilisation(flops, seconds, device_name, devices, peak),
        "peak_flops": peak or peak_flops(device_name),
        "device_name": device_name,
        "devices": devices,
        "device_hours": seconds * devices / 3600,
        "usd_per_hour": usd_per_hour,
        "dollars": None if usd_per_hour is None else seconds / 3600 * usd_per_hour,
    }
