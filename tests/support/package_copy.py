"""A copy of the packages with two kernels more, in a folder whose sources a test may edit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
INNER = "from kernels._jit import jit\n\n\n@jit\ndef inner(x: float) -> float:\n    return x + {}\n"
OUTER = (
    "from kernels._jit import jit\nfrom kernels.inner import inner\n\n\n"
    "@jit\ndef outer(x: float) -> float:\n    return 10.0 * inner(x)\n"
)
CALL = "from kernels.outer import outer; print(outer(1.0), sum(outer.stats.cache_hits.values()))"


def package_copy(folder: Path) -> Path:
    """Copy both packages, with two kernels more, of which one calls the other."""
    for name in ("kernels", "optimizer"):
        shutil.copytree(
            ROOT / name,
            folder / name,
            ignore=shutil.ignore_patterns("__pycache__"),
            dirs_exist_ok=True,
        )
    (folder / "kernels" / "inner.py").write_text(INNER.format("1.0"))
    (folder / "kernels" / "outer.py").write_text(OUTER)
    return folder


def start(folder: Path, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
