"""The wheel, and what its user has: ``make wheel-test`` installs it on every Python that is here.

For each Python from the oldest supported on: a new virtual environment, the wheel and its
dependencies as pinned in ``constraints.txt``, then a study from ``barsweep new`` to the replay of its
best set, in a folder outside the repository.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.wheel import ROOT, build_wheel

VERSIONS = ("3.11", "3.12", "3.13")
FLOW = """\
[study]
name = "flow"
[data]
path = "bars.parquet"
end = 2007-12-31
[strategy]
name = "momentum"
[[classifier]]
name = "hmm"
train_bars = 252
"""


def run(command: Sequence[object], folder: Path) -> str:
    """What a command prints, in an environment that knows nothing of the repository."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
    environment |= {"BARSWEEP_LEDGER": str(folder / "ledger.db"), "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def interpreters() -> dict[str, str]:
    """Each supported version that is installed, and its program: on PATH, or of pyenv."""
    found = {}
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in VERSIONS:
        pyenv = sorted(versions.glob(f"{version}.*/bin/python"))
        program = str(pyenv[-1]) if pyenv else shutil.which(f"python{version}")
        if program:
            found[version] = program
    return found


def try_wheel(wheel: Path, program: str, home: Path) -> None:
    """Install the wheel in an empty environment and use it as its reader would.

    Raises:
        RuntimeError: a command failed, or said something else than it should.
    """
    run([program, "-m", "venv", home / "venv"], home)
    python, barsweep = home / "venv" / "bin" / "python", home / "venv" / "bin" / "barsweep"
    constraints = ROOT / "constraints.txt"
    quiet = ("-q", "--disable-pip-version-check")
    run([python, "-m", "pip", "install", *quiet, "-c", constraints, wheel], home)
    run([python, "-m", "pip", "check"], home)
    for module in ("kernels", "optimizer"):
        where = run([python, "-c", f"import {module}; print({module}.__file__)"], home)
        expect(str(home / "venv"), where)
    expect("barsweep ", run([barsweep, "--version"], home))
    expect("barsweep ", run([python, "-m", "optimizer", "--version"], home))
    # Typer asks which shell called it, so there must be one: a lone command would take its place.
    expect("_BARSWEEP_COMPLETE", run(["bash", "-c", f"{barsweep} --show-completion; true"], home))
    completing = ["_BARSWEEP_COMPLETE=complete_bash", "COMP_WORDS=barsweep re", "COMP_CWORD=1"]
    expect("resume\n", run(["env", *completing, barsweep], home))
    run([barsweep, "new", "project"], home)
    project = home / "project"
    expect("look-ahead: none", run([barsweep, "check", "study.toml", "--look-ahead"], project))
    ran = run([barsweep, "run", "study.toml", "--out", "out", "--trials", "4"], project)
    expect("my_study: 256 parameter sets", ran)
    expect("deflated Sharpe ratio", run([barsweep, "show", "out"], project))
    expect("report: out/report.html", run([barsweep, "report", "out"], project))
    expect("exported: out/best.json", run([barsweep, "export", "out"], project))
    replayed = run([barsweep, "replay", "out/best.json", "--flow", "events"], project)
    expect("agree bit for bit", replayed)
    expect("identical: ", replayed)
    run([barsweep, "new", "gallery", "--template", "rotation"], home)
    expect("study.toml: valid", run([barsweep, "check", "study.toml"], home / "gallery"))
    # The database's migrations are files of the wheel too.
    (project / "flow.toml").write_text(FLOW)
    run([barsweep, "flow", "flow.toml", "--out", "flow"], project)
    expect("no_signal", run([barsweep, "trace", "flow", "--rejects"], project))


def expect(text: str, said: str) -> None:
    if text not in said:
        raise RuntimeError(f"expected {text!r} in:\n{said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", nargs="+", default=list(VERSIONS), help="versions to try")
    wanted = parser.parse_args().python
    programs = interpreters()
    failed = False
    with tempfile.TemporaryDirectory(prefix="barsweep-wheel-") as name:
        wheel = build_wheel(Path(name))
        print(wheel.name, flush=True)
        for version in wanted:
            if version not in programs:
                print(f"{version}: not on this machine")
                continue
            home = Path(name) / version
            home.mkdir()
            start = time.monotonic()
            try:
                try_wheel(wheel, programs[version], home)
            except RuntimeError as error:
                failed = True
                print(f"{version}: failed: {error}", flush=True)
            else:
                print(f"{version}: passed in {time.monotonic() - start:.0f} s", flush=True)
            shutil.rmtree(home)
    sys.exit(failed)


if __name__ == "__main__":
    main()
