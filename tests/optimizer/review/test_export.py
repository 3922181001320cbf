"""Parameter sets out of a study and back: files in four formats, and their replay."""

from __future__ import annotations

import copy
import json
import math
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tomli_w

from optimizer.catalogue import COSTS, METRICS, RISK
from optimizer.errors import BarsweepError, DataError, ExportError, StudyError
from optimizer.review.replay import Replay, replay
from optimizer.review.unseal import unseal_study
from optimizer.search.result import StudyResult
from optimizer.search.run import run_study
from optimizer.store.export import KIND, export_sets, load_export
from optimizer.store.folder import StudyFolder
from optimizer.store.names import SCHEMA_VERSION
from optimizer.store.seal import with_holdout
from tests.support.studies import changed, random_bars, small_study, write_bars

FIT = {"train_bars": 60, "refit_bars": 60}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bars and the study of them, in ``data`` and ``out``."""
    home = tmp_path_factory.mktemp("home")
    data = write_bars(home / "data" / "bars.parquet", random_bars())
    study = small_study(data, search={"constraints": ["n_trades >= 5"]})
    run_study(study, out=home / "out", workers=1)
    unseal_study(home / "out")
    return home


@pytest.fixture
def folder(home: Path) -> Path:
    return home / "out"


@pytest.fixture(scope="module")
def exported(home: Path) -> dict[str, Any]:
    """A JSON export as read back."""
    return dict(load_export(export_sets(home / "out", top=3, out=home / "out" / "three.json")))


def written(home: Path, content: Any) -> Path:
    """``content`` as a JSON export next to the bars."""
    path = home / "out" / "changed.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


# --- Export -----------------------------------------------------------------------------------


def test_an_export_carries_all_that_a_replay_needs(home: Path, exported: dict[str, Any]) -> None:
    manifest = StudyFolder.open(home / "out").manifest()
    assert exported["kind"] == KIND
    assert exported["schema_version"] == SCHEMA_VERSION
    assert exported["study"] == {"name": "small", "hash": manifest["study_hash"], "seed": 3}
    assert exported["data"]["hash"] == random_bars().content_hash
    assert exported["data"]["symbols"] == ["AAA", "BBB", "CCC"]
    assert exported["data"]["path"] == "../data/bars.parquet"
    assert exported["costs"]["commission_bps"] == 1.0
    assert exported["account"]["leverage"] == 1.0
    assert exported["instruments"] == manifest["study"]["instruments"]
    assert (exported["sizing"], exported["allocation"]) == ("kelly", "additions")
    assert exported["holdout"] == 0.25
    assert exported["first_bar"] == manifest["first_bar"]
    assert exported["versions"] == manifest["versions"]
    assert {"numba", "numpy", "optuna", "python", "barsweep"} <= set(exported["versions"])


def test_any_set_is_exported_and_replayed_by_its_number(home: Path, tmp_path: Path) -> None:
    folder = StudyFolder.open(home / "out")
    one, other = 5, 2
    path = export_sets(home / "out", numbers=[one, other], out=home / "out" / "two.json")
    content = load_export(path)
    assert [found["set"] for found in content["sets"]] == [one, other]
    row = folder.sets([one]).iloc[0]
    again = replay(home / "out", number=one)
    assert again.recorded["set"] == one
    assert again.result.in_sample["sharpe"] == row["sharpe"]
    assert again.differences == ()
    best = load_export(export_sets(home / "out", out=home / "out" / "best.json"))
    assert replay(home / "out").recorded["set"] == best["sets"][0]["set"]
    with pytest.raises(StudyError, match="no parameter set 999 in this study; valid: 0 to"):
        replay(home / "out", number=999)


def test_sets_are_exported_best_first(home: Path, exported: dict[str, Any]) -> None:
    folder = StudyFolder.open(home / "out")
    best = with_holdout(folder, folder.results())
    best = best[best["feasible"]].sort_values("sharpe", ascending=False).head(3)
    assert [one["set"] for one in exported["sets"]] == best["set"].tolist()
    for one, row in zip(exported["sets"], best.to_dict("records"), strict=True):
        assert one["strategy"] == "momentum"
        assert one["classifier"] == "none"
        assert one["trial"] == row["trial"]
        for name, value in one["parameters"].items():
            assert value == row[name]
        assert len(one["parameters"]) == 2 + len(RISK) + len(COSTS)
        for metric in METRICS:
            for prefix, sample in (("", "in_sample"), ("oos_", "out_of_sample")):
                value = one[sample][metric]
                if value is None:
                    assert pd.isna(row[prefix + metric])
                else:
                    assert value == float(row[prefix + metric])


def test_the_four_formats_hold_the_same_sets(folder: Path, tmp_path: Path) -> None:
    paths = {
        kind: export_sets(folder, top=4, format=kind, out=tmp_path / f"best.{kind}")
        for kind in ("json", "toml", "csv", "parquet")
    }
    as_json, as_toml = load_export(paths["json"]), load_export(paths["toml"])
    parquet, csv = pd.read_parquet(paths["parquet"]), pd.read_csv(paths["csv"])
    assert len(as_json["sets"]) == len(as_toml["sets"]) == len(parquet) == len(csv) == 4

    def without_none(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without_none(v) for k, v in value.items() if v is not None}
        return [without_none(v) for v in value] if isinstance(value, list) else value

    assert as_toml == without_none(as_json)
    assert list(csv.columns) == list(parquet.columns)
    for one, row, line in zip(
        as_json["sets"], parquet.to_dict("records"), csv.to_dict("records"), strict=True
    ):
        assert row["set"] == line["set"] == one["set"]
        for metric in METRICS:
            if one["in_sample"][metric] is not None:
                assert float(row[metric]) == float(line[metric]) == one["in_sample"][metric]
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("kind", ["json", "toml", "csv", "parquet"])
def test_the_default_file_stands_in_the_folder(kind: Any, folder: Path) -> None:
    path = export_sets(folder, format=kind)
    assert path == folder / f"best.{kind}"
    assert path.is_file()
    # Again is no error: the file is replaced.
    assert export_sets(folder, format=kind) == path


def test_more_sets_than_there_are_is_all_of_them(folder: Path, tmp_path: Path) -> None:
    path = export_sets(folder, top=10_000, out=tmp_path / "all.json")
    rows = StudyFolder.open(folder).results()
    assert len(load_export(path)["sets"]) == rows.loc[rows["feasible"], "sharpe"].nunique()


def test_nothing_feasible_is_said(home: Path, tmp_path: Path) -> None:
    study = small_study(
        home / "data" / "bars.parquet",
        search={"trials": 2, "constraints": ["n_trades >= 1000", "max_drawdown <= 0.5"]},
    )
    run_study(study, out=tmp_path / "out", workers=1)
    with pytest.raises(ExportError, match=r"no parameter set is feasible.*n_trades >= 1000"):
        export_sets(tmp_path / "out")
    assert not (tmp_path / "out" / "best.json").exists()


def test_what_cannot_be_exported_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="top"):
        export_sets(folder, top=0)
    with pytest.raises(StudyError, match="no study here"):
        export_sets(tmp_path)
    with pytest.raises(
        StudyError, match=r"in the format json is written to a file that ends in \.json"
    ):
        export_sets(folder, out=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"best\.json: there is no folder .*file; make it first"):
        export_sets(folder, out=tmp_path / "file" / "best.json")


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "best.json"
    out.mkdir()
    with pytest.raises(ExportError):
        export_sets(folder, out=out)
    assert [path.name for path in tmp_path.iterdir()] == ["best.json"]


@pytest.mark.parametrize("manifest", ["{}", "[]", '{"study": {}}', '"text"'])
def test_a_manifest_of_another_program_is_refused(
    manifest: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "out")
    (tmp_path / "out" / "study.json").write_text(manifest)
    with pytest.raises(BarsweepError, match=r"out"):
        export_sets(tmp_path / "out")


# --- Replay -----------------------------------------------------------------------------------


def assert_exact(result: Replay) -> None:
    assert result.differences == ()
    for metric in METRICS:
        recorded = result.recorded["in_sample"].get(metric)
        replayed = result.result.in_sample[metric]
        assert recorded == replayed if recorded is not None else math.isnan(replayed)


@pytest.mark.parametrize("kind", ["json", "toml"])
def test_a_replay_is_exact(kind: Any, folder: Path) -> None:
    path = export_sets(folder, top=5, format=kind, out=folder / f"five.{kind}")
    for number in range(1, 6):
        result = replay(path, number=number)
        assert_exact(result)
        assert result.recorded == load_export(path)["sets"][number - 1]
        assert result.study == "small"
        assert result.result.out_of_sample is not None
        last = float(result.result.equity.iloc[-1])
        assert last == result.recorded["out_of_sample"]["final_equity"]


HARD: dict[str, dict[str, Any]] = {
    # Options that the study needs and the single set does not: its walk is compiled without them.
    "stops and shorts": {
        "strategy": {"name": "momentum", "lookback": {"low": 5, "high": 40, "step": 5},
                     "threshold": 0.01},
        "risk": {"allow_short": True, "stop_loss": {"sweep": [0.0, 0.03]},
                 "trailing_stop": {"sweep": [0.0, 0.06]}, "lot_size": 0.01,
                 "min_order_size": 0.05, "kelly_fraction": 0.3},
        "costs": {"commission_bps": 12.5, "initial_cash": 12_345.67},
    },
    "regimes of one symbol": {
        "classifier": [{"name": "hmm", "lookback": {"choices": [5, 10]}, "market": "BBB", **FIT},
                       {"name": "svm", "lookback": 5, "market": "CCC", **FIT}],
        "search": {"sampler": "tpe"},
    },
    "two of three symbols, some of the bars": {
        "data": {"symbols": ["CCC", "AAA"], "start": "2015-03-02", "end": "2016-02-15"},
        "validation": {"holdout": 0.0},
    },
    "bars per year as the study states them": {"data": {"bars_per_year": 1008, "bar": "1d"}},
    "correlations refreshed rarely": {
        "risk": {"correlation_refresh": 9},
    },
}  # fmt: skip


@pytest.mark.parametrize("case", list(HARD))
def test_a_replay_of_a_hard_case_is_exact(case: str, home: Path, tmp_path: Path) -> None:
    study = small_study(home / "data" / "bars.parquet", **HARD[case])
    result = run_study(study, out=tmp_path / "out", workers=1)
    assert_exact(replay(export_sets(tmp_path / "out", format="toml")))
    path = export_sets(tmp_path / "out", top=40)
    content = load_export(path)
    for number in range(1, len(content["sets"]) + 1, 5):
        assert_exact(replay(path, number=number))
    best = result.best(40)
    assert len(best) > 10
    if case == "stops and shorts":
        assert set(best["stop_loss"]) == {0.0, 0.03}
    if case == "two of three symbols, some of the bars":
        assert content["data"]["symbols"] == ["AAA", "CCC"]
        assert content["sets"][0].get("out_of_sample") is None


def test_a_replay_needs_the_export_and_the_bars_alone(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "data", tmp_path / "data")
    (tmp_path / "moved").mkdir()
    path = export_sets(home / "out", out=tmp_path / "best.json")
    moved = shutil.copy(path, tmp_path / "moved" / "best.json")
    assert_exact(replay(moved, data=tmp_path / "data" / "bars.parquet"))


def test_an_export_moves_together_with_its_bars(home: Path, tmp_path: Path) -> None:
    export_sets(home / "out")
    shutil.copytree(home, tmp_path / "elsewhere")
    assert_exact(replay(tmp_path / "elsewhere" / "out" / "best.json"))


def test_the_bars_are_found_through_a_link(home: Path, tmp_path: Path) -> None:
    link = tmp_path / "one" / "level" / "deeper" / "link"
    link.parent.mkdir(parents=True)
    link.symlink_to(home / "out", target_is_directory=True)
    path = export_sets(link, out=link / "linked.json")
    assert_exact(replay(path))


def test_replay_works_from_any_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_sets(home / "out")
    monkeypatch.chdir(home / "out")
    assert_exact(replay("best.json"))
    monkeypatch.chdir(tmp_path)
    assert_exact(replay(home / "out" / "best.json"))


@pytest.mark.parametrize("sample", ["in_sample", "out_of_sample"])
@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_that_was_changed_is_found(
    sample: str, metric: str, home: Path, exported: dict[str, Any]
) -> None:
    content = copy.deepcopy(exported)
    recorded = content["sets"][0][sample]
    value = recorded[metric]
    if isinstance(value, bool):
        recorded[metric] = not value
    elif value is None:
        recorded[metric] = 1.0
    else:
        recorded[metric] = math.nextafter(float(value), math.inf)
    result = replay(written(home, content))
    assert [(one.sample.replace("-", "_"), one.metric) for one in result.differences] == [
        (sample, metric)
    ]
    assert result.differences[0].recorded == recorded[metric]
    assert result.differences[0].replayed == value
    # The other sets of the file are as they were.
    assert_exact(replay(written(home, content), number=2))


def test_a_missing_metric_is_refused(home: Path, exported: dict[str, Any]) -> None:
    content = copy.deepcopy(exported)
    del content["sets"][0]["in_sample"]["sharpe"]
    with pytest.raises(ExportError, match="sets #1 in_sample: sharpe is missing"):
        replay(written(home, content))


@pytest.mark.parametrize(
    ("name", "value"),
    [("kelly_fraction", 0.011), ("momentum_lookback", 7), ("max_exposure", 0.05)],
)
def test_a_parameter_that_was_changed_shows_in_the_metrics(
    name: str, value: float, home: Path, exported: dict[str, Any]
) -> None:
    content = copy.deepcopy(exported)
    content["sets"][0]["parameters"][name] = value
    assert replay(written(home, content)).differences


def test_other_bars_are_refused(home: Path, tmp_path: Path) -> None:
    path = export_sets(home / "out")
    other = write_bars(tmp_path / "bars.parquet", changed(random_bars(), 290))
    with pytest.raises(ExportError, match="holds other bars than the study had") as error:
        replay(path, data=other)
    assert str(other) in str(error.value)
    assert "--data" in str(error.value)
    fewer = write_bars(tmp_path / "fewer.parquet", random_bars(300, ("AAA", "BBB")))
    with pytest.raises(DataError, match="CCC"):
        replay(path, data=fewer)


def test_bars_that_are_gone_are_named(home: Path, exported: dict[str, Any]) -> None:
    content = {**exported, "data": {**exported["data"], "path": "../data/gone.parquet"}}
    with pytest.raises(DataError, match=r"gone\.parquet: no such file"):
        replay(written(home, content))


@pytest.mark.parametrize("number", [0, -1, 4, 10**9])
def test_a_set_that_the_file_lacks(number: int, home: Path, exported: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match=rf"has 3, asked for number {number}"):
        replay(written(home, exported), number=number)


# --- Bad files --------------------------------------------------------------------------------


def leaves(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value that a replay may read; metrics and versions aside."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(content, dict):
        pairs = list(content.items())
    elif isinstance(content, list):
        pairs = list(enumerate(content[:1]))
    for key, value in pairs:
        if key in ("in_sample", "out_of_sample", "versions"):
            continue
        yield (*place, key)
        yield from leaves(value, (*place, key))


def container(content: Any, place: tuple[Any, ...]) -> Any:
    for key in place[:-1]:
        content = content[key]
    return content


NEEDED = [
    ("kind",), ("schema_version",), ("sets",), ("data",), ("costs",), ("allow_short",), ("holdout",),
    ("account",), ("instruments",), ("sizing",), ("allocation",),
    ("first_bar",), ("study",), ("study", "name"), ("data", "path"), ("data", "hash"),
    ("data", "symbols"), ("data", "align"), ("data", "timezone"), ("sets", 0, "strategy"),
    ("sets", 0, "classifier"), ("sets", 0, "parameters"), ("sets", 0, "in_sample"),
]  # fmt: skip


@pytest.mark.parametrize("place", NEEDED, ids=lambda place: ".".join(map(str, place)))
def test_a_missing_key_is_named(
    place: tuple[Any, ...], home: Path, exported: dict[str, Any]
) -> None:
    content = copy.deepcopy(exported)
    del container(content, place)[place[-1]]
    with pytest.raises(ExportError) as error:
        replay(written(home, content))
    message = str(error.value)
    assert str(place[-1]) in message
    assert "changed.json" in message
    assert "\n" not in message


COMPILED = ("allow_short", "first_bar", "stop_loss", "take_profit", "trailing_stop")
"""Keys that choose what is compiled: a value that is fit for them takes seconds, and is no error."""
WRONG: list[Any] = [None, "text", "", -3, 1.5, 10**30, True, [], [1], {}, {"a": 1}]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_a_value_of_the_wrong_kind_is_refused_or_taken_never_a_crash(
    wrong: Any, home: Path, exported: dict[str, Any]
) -> None:
    crashes = []
    for place in leaves(exported):
        content = copy.deepcopy(exported)
        holder = container(content, place)
        if holder[place[-1]] == wrong or (
            place[-1] in COMPILED and isinstance(wrong, (bool, float))
        ):
            continue
        holder[place[-1]] = wrong
        path = written(home, content)
        try:
            replay(path)
        except BarsweepError as error:
            if "\n" in str(error):
                crashes.append(f"{place}: several lines: {error!r}")
        except Exception as error:
            crashes.append(f"{'.'.join(map(str, place))} = {wrong!r}: {error!r}")
    assert not crashes, "\n".join(crashes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read as JSON"),
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[]", "not an export"),
        ("{}", "not an export"),
        ('"text"', "not an export"),
        ('{"kind": "something else"}', "not an export"),
        (json.dumps({"kind": KIND}), "schema_version: got None"),
        (json.dumps({"kind": KIND, "schema_version": 99}), "schema_version: got 99"),
        (
            json.dumps({"kind": KIND, "schema_version": 1}),
            f"schema_version: got 1; this barsweep reads {SCHEMA_VERSION}",
        ),
        (json.dumps({"kind": KIND, "schema_version": SCHEMA_VERSION}), "sets: missing"),
    ],
)
def test_what_is_no_export_is_refused(text: str, words: str, home: Path) -> None:
    with pytest.raises(ExportError, match=words) as error:
        replay(written(home, text))
    assert "\n" not in str(error.value)
    assert "changed.json" in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("best.toml", b"kind = ", "cannot be read as TOML"),
        ("best.json", b"\xff\xfe\x00", "cannot be read as JSON"),
        ("best.csv", b"set,trial\n", "exports are .json and .toml files; got .csv"),
        ("best", b"", "got no suffix"),
    ],
)
def test_a_file_of_another_kind(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ExportError, match=words):
        replay(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no such file"):
        replay(tmp_path / "best.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(StudyError, match="no study here; expected a folder that `barsweep run`"):
        replay(tmp_path / "folder.json")


def test_toml_written_by_another_program_replays(home: Path, exported: dict[str, Any]) -> None:
    """Whole numbers written as floats, keys in another order."""

    def loose(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: loose(value[k]) for k in sorted(value, reverse=True) if value[k] is not None}
        return [loose(v) for v in value] if isinstance(value, list) else value

    content = loose(exported)
    for one in content["sets"]:
        one["parameters"] = {name: float(v) for name, v in one["parameters"].items()}
    path = home / "out" / "loose.toml"
    path.write_text(tomli_w.dumps(content))
    assert tomllib.loads(path.read_text())["sets"]
    assert_exact(replay(path))


def test_best_of_a_study_result_is_what_is_exported(
    home: Path, tmp_path: Path, exported: dict[str, Any]
) -> None:
    study = small_study(home / "data" / "bars.parquet", search={"constraints": ["n_trades >= 5"]})
    result: StudyResult = run_study(study, out=tmp_path / "out", workers=1)
    assert result.best(3)["set"].tolist() == [one["set"] for one in exported["sets"]]
