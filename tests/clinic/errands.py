"""Jobs for the pool that do not need torch."""

from __future__ import annotations

import os
import time


def run(errand: str) -> str:
    """Do what the errand says."""
    if errand == "die":
        os._exit(7)
    if errand == "linger":
        time.sleep(60)
    if errand == "fail":
        message = "no such\nluck"
        raise ValueError(message)
    if errand.startswith("nap"):
        time.sleep(0.2)
    return f"{errand} done by {os.getpid()}"
