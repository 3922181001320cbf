"""A test that hangs says where, and the others go on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = """
import threading
def wait_for_nothing(): threading.Event().wait()
def test_hangs():
    threading.Thread(target=wait_for_nothing, daemon=True).start()
    threading.Event().wait()
def test_goes_on(): pass
"""


def test_a_test_that_hangs_prints_all_stacks_and_the_others_go_on(tmp_path: Path) -> None:
    file = tmp_path / "test_hangs.py"
    file.write_text(TESTS)
    options = ["-n", "1", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, "-o", "faulthandler_timeout=2", file],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "in wait_for_nothing" in done.stderr
    assert "in test_hangs" in done.stderr
    assert "crashed while running 'test_hangs.py::test_hangs'" in done.stdout
    assert "1 failed, 1 passed" in done.stdout
