"""How much memory is free: on the host, within its container's limit, and on a device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch

_CGROUPS: Final = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "total_inactive_file",
    ),
)
"""Limit, use, and the name of what the kernel would give up first: version 2 and version 1."""


def free(device: torch.device) -> int:
    """Return the bytes that are free on `device`, in it or in torch's own cache for it."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + int(unused)
    return min(_host(), *_within_containers())


def _host() -> int:
    """Return what the host can give without swapping; what it caches of files counts as free."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    names = ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES")  # macOS knows only the second
    pages = next((os.sysconf(name) for name in names if name in os.sysconf_names), 2**20)
    return pages * os.sysconf("SC_PAGE_SIZE")


def _within_containers() -> Iterator[int]:
    yield 2**62
    for limit, used, name in _CGROUPS:
        try:
            most = int(Path(limit).read_text(encoding="ascii"))  # "max" is no number: there is no limit
            taken = int(Path(used).read_text(encoding="ascii"))
            lines = Path(limit).with_name("memory.stat").read_text(encoding="ascii").splitlines()
        except (OSError, ValueError):
            continue
        cached = [int(line.split()[1]) for line in lines if line.startswith(f"{name} ")]
        yield max(0, most - taken + sum(cached))
