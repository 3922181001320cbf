"""Several coordinators of one study on a real PostgreSQL; one of them is killed at work."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest
import sqlalchemy
import tomli_w

from optimizer.engine.coordination import FOLDER, REASON
from optimizer.errors import StudyError, StudyFileError
from optimizer.search.merge import merge_studies
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.store.folder import StudyFolder
from optimizer.store.trial_records import point_key
from optimizer.study_file.load import load_study
from tests.support.processes import Command, wait_until
from tests.support.studies import mapping, random_bars, small_study, write_bars

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer

pytest.importorskip("psycopg")

STATES = "SELECT state::text, count(*) FROM trials GROUP BY state"
STEPPED = {"max_exposure": {"low": 0.4, "high": 1.0, "step": 0.1}}


def write_study(home: Path, url: str, **search: Any) -> Path:
    write_bars(home / "bars.parquet", random_bars())
    file = home / "study.toml"
    tables = mapping("bars.parquet", risk=STEPPED, search={**search, "storage": url})
    file.write_text(tomli_w.dumps(tables))
    return file


def trials_in(url: str) -> list[optuna.trial.FrozenTrial]:
    """What counts in the database: the trials that were told, with a value or why they have none."""
    place = sqlalchemy.engine.make_url(url).set(drivername="postgresql+psycopg")
    storage = optuna.storages.RDBStorage(place.render_as_string(hide_password=False))
    [name] = optuna.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage)
    trials = study.get_trials()
    storage.engine.dispose()
    assert not [t for t in trials if t.state.name in ("RUNNING", "WAITING")]
    return [
        trial for trial in trials if trial.state.name == "COMPLETE" or REASON in trial.user_attrs
    ]


def objective(trials: Any) -> dict[str, Any]:
    return {point_key(trial["params"]): trial["values"] for trial in trials}


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_one_of_two_coordinators_is_killed(
    sampler: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """It hangs in a tile and dies; the other does all that is left, no point is done twice."""
    url = postgres_server.url(database := postgres_server.new_database())
    file = write_study(tmp_path, url, sampler=sampler, trials=48, batch=4)
    commands = {
        name: Command(
            *("run", file, "--out", tmp_path / name, "--workers", 1),
            output=tmp_path / f"{name}.txt",
            prepare="tests.support.faults:coordinate",
            own=[fault],
        )
        for name, fault in (("one", "loop"), ("two", ""))
    }

    def only_one_is_left() -> bool:
        try:
            states = Counter(dict(postgres_server.execute(database, STATES)))
        except Exception:  # not created yet
            return False
        return 0 < states["RUNNING"] <= 4 and states["COMPLETE"] + states["RUNNING"] == 48

    assert wait_until(only_one_is_left, 90, 0.02), [c.text() for c in commands.values()]
    commands["one"].signal(signal.SIGKILL)
    assert commands["two"].wait(60) == 0, commands["two"].text()

    told = trials_in(url)
    assert len(told) == 48
    assert max(Counter(point_key(trial.params) for trial in told).values()) == 1
    found = {name: objective(StudyFolder(tmp_path / name).trials()) for name in commands}
    for trial in told:
        assert found[Path(trial.user_attrs[FOLDER]).name][point_key(trial.params)] == trial.values
    assert {Path(trial.user_attrs[FOLDER]).name for trial in told} >= {"two"}
    if sampler == "random":
        # All together they do what one does alone, up to points that the sequence repeats.
        tables = {"risk": STEPPED, "search": {"sampler": sampler, "trials": 96, "batch": 4}}
        alone = run_study(small_study(tmp_path / "bars.parquet", **tables), out=tmp_path / "alone",
                          workers=1)  # fmt: skip
        values = objective(alone.folder.trials())
        assert all(values[point_key(trial.params)] == trial.values for trial in told)

    secret = postgres_server.password
    for path in tmp_path.rglob("*"):
        if path.is_file() and path != file:
            assert secret.encode() not in path.read_bytes(), path
    with pytest.raises(StudyError, match=r"several coordinators .* again with another --out"):
        resume_study(tmp_path / "one")
    whole = merge_studies([tmp_path / "two", tmp_path / "one"], out=tmp_path / "whole", workers=1)
    assert objective(whole.folder.trials()) == {
        point_key(trial.params): trial.values for trial in told
    }
    again = run_study_refusal(file, tmp_path / "three")
    assert "other coordinators have done all 48 trials" in again


def test_a_coordinator_killed_before_its_first_heartbeat(postgres_url: str, tmp_path: Path) -> None:
    """Optuna itself would leave that trial RUNNING forever, and others would wait for it."""
    file = write_study(tmp_path, postgres_url, sampler="random", trials=8, batch=4)
    killed = Command(
        *("run", file, "--out", tmp_path / "one", "--workers", 1),
        output=tmp_path / "text",
        prepare="tests.support.faults:die_before_the_first_heartbeat",
    )
    assert killed.wait(60) == -signal.SIGKILL, killed.text()
    command = Command(
        *("run", file, "--out", tmp_path / "two", "--workers", 1),
        output=tmp_path / "text",
        prepare="tests.support.faults:coordinate",
        own=[""],
    )
    assert command.wait(60) == 0, command.text()
    told = trials_in(postgres_url)
    assert len({point_key(trial.params) for trial in told}) == len(told) == 8


def run_study_refusal(file: Path, out: Path) -> str:
    with pytest.raises(StudyError) as error:
        run_study(load_study(file), out=out, workers=1)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_grid_is_done_once(postgres_url: str, tmp_path: Path) -> None:
    file = write_study(tmp_path, postgres_url, sampler="grid")
    file.write_text(file.read_text().replace("step = 0.1", "step = 0.3"))
    study = load_study(file)
    run_study(study, out=tmp_path / "one", workers=1)
    told = trials_in(postgres_url)
    assert len(told) == 8 * 3 * 2
    assert len({point_key(trial.params) for trial in told}) == 8 * 3 * 2


def test_a_database_that_cannot_be_used(postgres_server: PostgresServer, tmp_path: Path) -> None:
    for url in (
        postgres_server.url("missing"),
        postgres_server.url("postgres", password="wr0ng-one"),
        "postgresql://barsweep:hidden-w0rd@127.0.0.1:9/none",
    ):
        message = run_study_refusal(write_study(tmp_path, url), tmp_path / "out")
        assert "[search] storage: postgresql+psycopg://barsweep:***@127.0.0.1" in message
        for secret in (postgres_server.password, "wr0ng-one", "hidden-w0rd", "s3cret"):
            assert secret not in message


def test_a_storage_of_another_kind_is_refused_without_showing_it(tmp_path: Path) -> None:
    for url in ("mysql://a:s3cret-w0rd@host/name", 5, ""):
        file = tmp_path / "study.toml"
        file.write_text(tomli_w.dumps(mapping(search={"storage": url})))
        with pytest.raises(StudyFileError, match=r"\[search\] storage: expected") as error:
            load_study(file)
        assert "s3cret" not in str(error.value)
