"""Databases that the tests of this folder share."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.databases import Place, lite, postgres

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
