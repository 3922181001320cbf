"""The machine on which a measurement was taken."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np


@dataclass(frozen=True)
class Machine:
    """Where a measurement was taken.

    Times of two machines compare if ``processor`` and ``cores`` agree.

    Attributes:
        processor: its model name.
        cores: logical cores.
        python, numba, numpy: releases.
    """

    processor: str
    cores: int
    python: str
    numba: str
    numpy: str


def this_machine() -> Machine:
    """This machine and the releases that compile for it.

    Returns:
        What identifies a measurement.
    """
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):  # not Linux
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        named = dict(re.findall(r"^(model name|cpu family|model)\s*: (.+)$", first, re.M))
        if "model name" in named:
            numbers = ", ".join(f"{key} {named[key]}" for key in ("cpu family", "model"))
            processor = f"{named['model name']} ({numbers})"
    return Machine(
        processor=processor,
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        numba=str(numba.__version__),
        numpy=str(np.__version__),
    )
