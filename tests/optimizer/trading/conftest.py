"""One study for all tests of orders and trading."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.trading import EVERY, N_STUDY, exported


@pytest.fixture(scope="package")
def best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a study of daily bars of three symbols."""
    home = tmp_path_factory.mktemp("orders")
    return exported(home, "daily", EVERY.head(N_STUDY), risk={"correlation_penalty": 0.5})
