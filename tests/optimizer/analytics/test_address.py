"""Addresses of analytics databases, and passwords that nothing shows."""

# ruff: noqa: PT012 - leaving the writer's block is what raises

from __future__ import annotations

import traceback
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from optimizer.analytics.address import AnalyticsError
from optimizer.analytics.reader import open_reader
from optimizer.analytics.spill import import_spill
from optimizer.analytics.writer import AnalyticsWriter
from tests.support.rows import add_bars

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://", "plain file"),
        ("sqlite:///:memory:", "plain file"),
        ("sqlite:///file:a.db?uri=true", "plain file"),
        ("sqlite:///a.db?mode=ro", "plain file"),
        ("mysql://u:hunter2@localhost/a", "'mysql' is not supported"),
        ("postgresql+psycopg://u:hunter2@localhost/a", r"'postgresql\+psycopg' is not supported"),
        ("hunter2", "cannot be read"),
        ("postgresql://u:hunter2@localhost:port/a", "cannot be read"),
        ("postgresql://u:hun@ter2@localhost/a", "cannot be read.*%40"),
        ("postgresql://u:hun@ter2/hunter2@localhost/a", "cannot be read.*%40"),
    ],
)
def test_bad_addresses(tmp_path: Path, url: str, message: str) -> None:
    for act in (
        lambda: AnalyticsWriter(url, tmp_path / "spill"),
        lambda: open_reader(url),
        lambda: import_spill(tmp_path / "spill", url),
    ):
        with pytest.raises(AnalyticsError, match=message) as caught:
            act()
        assert "ter2" not in str(caught.value)


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(AnalyticsError, match=r"none/a\.db: its folder does not exist"):
        AnalyticsWriter(f"sqlite:///{tmp_path}/none/a.db", tmp_path / "spill")
    with pytest.raises(AnalyticsError, match="none/spill: its folder does not exist"):
        AnalyticsWriter(f"sqlite:///{tmp_path}/a.db", tmp_path / "none" / "spill")


def test_a_file_that_is_no_database(tmp_path: Path, spill: Path) -> None:
    (tmp_path / "a.db").write_text("no database, but long enough to look like one\n" * 100)
    with pytest.raises(AnalyticsError, match=r"a\.db: cannot be used .*: file is not a database"):
        AnalyticsWriter(f"sqlite:///{tmp_path}/a.db", spill)
    with pytest.raises(AnalyticsError, match=r"a\.db: cannot be read: file is not a database"):
        open_reader(f"sqlite:///{tmp_path}/a.db")


@pytest.mark.parametrize("is_right", [True, False])
def test_a_password_is_never_shown(
    postgres_server: PostgresServer,
    spill: Path,
    impatient: None,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    is_right: bool,
) -> None:
    caplog.set_level("DEBUG")
    seen = []
    password = postgres_server.password if is_right else "plainpassword"
    right = postgres_server.url(postgres_server.new_database())
    name = right.rpartition("/")[2]
    wrong = [
        postgres_server.url(name, password=password + "x"),
        postgres_server.url("no_such_database"),
        postgres_server.url(name, password=password).replace(str(postgres_server.port), "1"),
        postgres_server.url(name, password=password).replace("127.0.0.1", "no.such.host.invalid"),
        f"postgresql://barsweep@127.0.0.1:{postgres_server.port}/{name}?password={urllib.parse.quote(password)}&x=1",
    ]
    for url in wrong:
        with pytest.raises(AnalyticsError) as caught:
            AnalyticsWriter(url, spill)
        seen.append(caught.value)
        with pytest.raises(AnalyticsError) as caught:
            open_reader(url)
        seen.append(caught.value)
    with pytest.raises(AnalyticsError) as caught, AnalyticsWriter(right, spill) as writer:
        postgres_server.execute(name, "DROP TABLE equity")
        add_bars(writer, range(3))
    seen.append(caught.value)
    assert "in the environment variable PGPASSWORD" in str(caught.value)
    texts = [caplog.text, *capfd.readouterr(), spill.read_text(), repr(writer.__dict__)]
    texts += ["".join(traceback.format_exception(error)) + repr(error) for error in seen]
    for text in texts:
        for secret in (
            password,
            postgres_server.password,
            sa.make_url(right).render_as_string(hide_password=False),
        ):
            assert secret not in text
        assert postgres_server.url("").partition("barsweep:")[2].partition("@")[0] not in text
