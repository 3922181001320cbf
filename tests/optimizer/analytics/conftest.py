"""Databases that the tests of this folder share."""

# ruff: noqa: PT012 - leaving the writer's block is what raises

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from optimizer.analytics import database
from optimizer.analytics.address import AnalyticsError
from optimizer.analytics.writer import AnalyticsWriter
from tests.support.databases import Place, lite, postgres
from tests.support.rows import add_bars

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgresql"])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Place]:
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        return lambda: postgres(server)
    numbers = itertools.count()
    return lambda: lite(tmp_path / f"{next(numbers)} of a flow.db")


@pytest.fixture
def place(new_place: Callable[[], Place]) -> Place:
    return new_place()


@pytest.fixture
def spill(tmp_path: Path) -> Path:
    return tmp_path / "a spill.jsonl"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_RETRY_SECONDS", (0.01,))
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)


@pytest.fixture
def spilled(tmp_path: Path, spill: Path, impatient: None) -> Path:
    """A spill file with bars 0 to 9."""
    place = lite(tmp_path / "failed.db")
    with pytest.raises(AnalyticsError), AnalyticsWriter(place.url, spill) as writer:
        place.query("DROP TABLE equity")
        add_bars(writer, range(10))
    return spill
