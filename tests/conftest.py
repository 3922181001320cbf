"""Settings of all tests. ``optimizer`` is imported first: it chooses the folder of compiled kernels."""

from __future__ import annotations

import os
import shutil
import tempfile

from hypothesis import settings

import optimizer  # noqa: F401
from tests.support.compiled import own_folder, share

# No test reads or writes the user's own ledger.
_own = tempfile.mkdtemp(prefix="barsweep-")
os.environ["BARSWEEP_LEDGER"] = os.path.join(_own, "ledger.db")


def pytest_unconfigure() -> None:
    """At the end of each pytest process, and not in what it forked."""
    shutil.rmtree(_own, ignore_errors=True)


_worker = os.environ.get("PYTEST_XDIST_WORKER")
if _worker:
    own_folder(_worker)
    share()

settings.register_profile(
    "barsweep", deadline=None, max_examples=50, derandomize="CI" in os.environ
)
settings.load_profile("barsweep")
