"""Settings of all tests. ``optimizer`` is imported first: it chooses the folder of compiled kernels."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

import optimizer  # noqa: F401
from tests.support.compiled import own_folder, share
from tests.support.postgres import postgres_server, postgres_url  # noqa: F401

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

# The same examples each time, so that a test fails for what was changed; `make soak` tries others.
settings.register_profile(
    "barsweep", deadline=None, max_examples=50, derandomize="BARSWEEP_EXPLORE" not in os.environ
)
settings.load_profile("barsweep")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of daily bars of three symbols, in a folder of its own."""
    # What imports kernels comes after the choice of their folder above.
    from tests.support.studies import random_bars, write_bars

    return write_bars(tmp_path_factory.mktemp("data") / "bars.parquet", random_bars())
