"""Build the wheel with compiled kernels: ``make wheel``.

For each level of x86-64 that this processor has, a few studies run with nothing compiled before, and
the kernels that they called go into the wheel. The wheel fits any processor and any Python: where
those kernels do not, they are compiled at the first start.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from optimizer.compile_cache import kernels_folder, source_key
from optimizer.prebuilt import PACKS, levels, pack, pack_name

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("kernels", "optimizer", "pyproject.toml", "README.md", "LICENSE")
QUICKSTART = ROOT / "studies" / "quickstart.toml"
OTHERS = (ROOT / "optimizer" / "project" / "study.toml", ROOT / "studies" / "event_flow.toml")
RISKS: tuple[dict[str, Any], ...] = (
    {},
    {"stop_loss": 0.1},
    {"allow_short": True},
    {"allow_short": True, "stop_loss": 0.1},
)
"""What the quickstart's ``[risk]`` is given, as each of these compiles a simulation of its own."""


def build_wheel(folder: Path, packs: Sequence[Path] = ()) -> Path:
    """Build the wheel from a copy of the sources, with the setuptools that is installed.

    Args:
        folder: where the copy and the wheel go.
        packs: the compiled kernels to put into it.

    Returns:
        The wheel.
    """
    copy = folder / "sources"
    copy.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    (copy / "kernels" / PACKS).mkdir()
    for path in packs:
        shutil.copy(path, copy / "kernels" / PACKS)
    call = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    _run(["-c", call, folder], copy, {})
    (wheel,) = folder.glob("*.whl")
    return wheel


def compiled_for(level: str, features: str, folder: Path) -> Path:
    """Run the studies with kernels for a level of processors, and pack what was compiled.

    Args:
        level: the level, by LLVM's name.
        features: numba's ``NUMBA_CPU_FEATURES``.
        folder: where caches, results and the pack go.

    Returns:
        The pack.
    """
    home = folder / level
    home.mkdir()
    given = {
        "NUMBA_CACHE_DIR": str(home / "cache"),
        "NUMBA_CPU_NAME": level,
        "NUMBA_CPU_FEATURES": features,
        "BARSWEEP_LEDGER": str(home / "ledger.db"),
        "PYTHONPATH": str(ROOT),
    }
    quickstart = tomllib.loads(QUICKSTART.read_text())
    quickstart["data"]["path"] = str(QUICKSTART.parent / quickstart["data"]["path"])
    for number, risk in enumerate(RISKS):
        study = home / f"quickstart-{number}.toml"
        study.write_text(tomli_w.dumps(quickstart | {"risk": quickstart["risk"] | risk}))
        out = home / f"out-{number}"
        _barsweep(home, given, "run", study, "--out", out, "--trials", 2, "--quiet")
        _barsweep(home, given, "export", out, "--out", out / "best.json")
        _barsweep(home, given, "replay", out / "best.json")
    own, flow = OTHERS
    _barsweep(home, given, "run", own, "--out", home / "own", "--trials", 1, "--quiet")
    _barsweep(home, given, "flow", flow, "--out", home / "flow")
    (cache,) = (home / "cache" / "barsweep").glob("kernels-*")
    path = folder / pack_name(level)
    n_files = pack(cache, kernels_folder(), source_key(kernels_folder(), python=""), path)
    print(f"{path.name}: {n_files} files, {path.stat().st_size / 1e6:.1f} MB", flush=True)
    return path


def _barsweep(folder: Path, given: Mapping[str, str], *command: object) -> None:
    _run(["-m", "optimizer", *command], folder, given)


def _run(command: Sequence[object], folder: Path, given: Mapping[str, str]) -> None:
    arguments = [sys.executable, *map(str, command)]
    done = subprocess.run(
        arguments, cwd=folder, env=os.environ | given, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")


def main() -> None:
    """Build the wheel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the wheel")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="barsweep-wheel-") as name:
        folder = Path(name)
        packs = [compiled_for(level, features, folder) for level, features in levels().items()]
        wheel = shutil.move(build_wheel(folder, packs), out)
    print(wheel)


if __name__ == "__main__":
    main()
