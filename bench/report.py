"""What the pages of results share."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

__all__ = ["cost", "installed", "processor", "rate", "whole"]


def processor() -> str:
    """The processor's name, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor() or "unknown"


def installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def rate(value: float) -> str:
    return f"{value / 1000:,.0f}" if value >= 100_000 else f"{value / 1000:.1f}"


def cost(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def whole(value: float) -> str:
    return f"{value:,.0f}"
