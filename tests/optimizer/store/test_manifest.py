"""The manifest of a study: every key has a type and bounds, and one line names what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from optimizer.errors import ExportError, StudyError
from optimizer.files import write_atomically
from optimizer.search.run import run_study
from optimizer.selection.record import load_selection
from optimizer.store.export import export_sets, load_export
from optimizer.store.folder import StudyFolder
from optimizer.store.manifest import Manifest
from optimizer.store.validated import parse_json
from tests.support.command import barsweep
from tests.support.studies import small_study


@pytest.fixture(scope="module")
def out(data: Path) -> Path:
    run_study(small_study(data, search={"trials": 4}), out=data.parent / "out", workers=1)
    export_sets(data.parent / "out")
    return data.parent / "out"


@pytest.fixture
def copy(out: Path, tmp_path: Path) -> StudyFolder:
    shutil.copytree(out, tmp_path / "out")
    return StudyFolder.open(tmp_path / "out")


def test_what_a_study_writes_is_read_back_as_it_was(out: Path) -> None:
    folder = StudyFolder.open(out)
    assert folder.manifest() == json.loads(folder.manifest_path.read_text())


WRONG: dict[str, list[Any]] = {
    "schema_version": [None, "1", 0, -1, 1.5, True, 10**30],
    "study": [None, [], "x", {}],
    "study_source": [None, 3, "a\x1bb", "x" * 5000],
    "study_folder": [None, 3, "a\nb"],
    "study_hash": [None, 3, "", "../x", "Z" * 64],
    "data_path": [None, [], "a\u202eb"],
    "data_hash": [None, "", "<img>"],
    "files_hash": [None, "", 3],
    "symbols": [None, [], "AAA", [1], [""], ["a\x07b"], ["x" * 300]],
    "n_bars": [None, "300", -1, 0, 1.5, 1e308],
    "first_bar": [None, -1, 10**9],
    "holdout_bar": [None, -1, 10**9],
    "span": [None, [], ["2015-01-01"], ["x", "y"], [1, 2]],
    "first_time": [None, 3, "yesterday"],
    "holdout_time": [3, "x", []],
    "bar_ns": [None, 0, -1, 1.5, "day", 2**63],
    "bars_per_year": [None, 0, -1.0, "252", 1e308, 1e-320, 5e-324, 1e10],
    "versions": [None, [], {"numpy": 3}, {"a\x1b": "1"}],
    "kernels": [None, 3, ""],
    "complete": [None, 0, "yes"],
    "overridden": [None, "x", [1]],
    "coordinated": [None, "x", 3],
    "merged": [None, "x", [1], ["a\0b"]],
    "n_batches": ["x", -1, 1.5, True],
    "winner": ["x", -1, 1.5, True],
    "warm_start": [None, "x", [3], [{"a": 1}]],
}


def test_every_key_is_tried() -> None:
    assert WRONG.keys() == Manifest.model_fields.keys()


@pytest.mark.parametrize("key", list(WRONG))
def test_a_value_of_the_wrong_type_or_size_is_named(key: str, copy: StudyFolder) -> None:
    content = json.loads(copy.manifest_path.read_text())
    for value in WRONG[key]:
        copy.manifest_path.write_text(json.dumps({**content, key: value}))
        with pytest.raises(StudyError) as refused:
            copy.manifest()
        message = str(refused.value)
        assert message.startswith(str(copy.manifest_path)), message
        assert key in message, message
        assert message.isprintable() and len(message) < 1000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"kind": NaN}', "NaN is not a number"),
        ('{"kind": 1e999}', "too large"),
        ("", "cannot be read"),
        ("[]", "not the manifest"),
    ],
)
def test_what_is_no_manifest(text: str, words: str, copy: StudyFolder) -> None:
    copy.manifest_path.write_text(text)
    with pytest.raises(StudyError, match=words):
        copy.manifest()


def test_a_mistake_in_the_study_names_the_file(copy: StudyFolder) -> None:
    content = json.loads(copy.manifest_path.read_text())
    content["study"]["costs"]["commission_bps"] = "free"
    copy.manifest_path.write_text(json.dumps(content))
    with pytest.raises(StudyError, match=r"study\.json: study: \[costs\] commission_bps: got"):
        copy.manifest()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_tried", 0), ("n_tried", "9"), ("n_returns", 0), ("returns_per_year", 0), ("sets", []),
        ("returns_per_year", 1e-320), ("returns_per_year", 1e300), ("n_effective", 1e-320),
        ("sets", [{"number": "x"}]), ("n_effective", -1), ("sharpe_deviation", 1e300),
        ("windows", {}), ("logits", ["x"]), ("neighbours", 3), ("sharpe_interval", [1]),
        ("held", {"in_sample": []}), ("block_bars", [-1]), ("one_search_per_window", 1),
    ],
)  # fmt: skip
def test_a_selection_of_wrong_values_names_file_and_key(
    key: str, value: Any, copy: StudyFolder
) -> None:
    path = copy.path / "selection.json"
    content = json.loads(path.read_text())
    assert load_selection(copy) is not None
    path.write_text(json.dumps({**content, key: value}))
    with pytest.raises(StudyError, match=rf"selection\.json: cannot be read: {key}"):
        load_selection(copy)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("sets",), {}), (("sets", 0), []), (("sets", 0, "set"), "1"), (("sets", 0, "strategy"), 3),
        (("sets", 0, "parameters"), []), (("sets", 0, "in_sample", "sharpe"), "x"),
        (("study", "name"), "\x1b[2J"), (("study",), []), (("data", "symbols"), ["\x07"]),
        (("data", "path"), None), (("data", "hash"), "x"), (("holdout",), 1.5), (("costs",), []),
        (("first_bar",), -1), (("allow_short",), "no"), (("strategies",), []),
    ],
)  # fmt: skip
def test_an_export_of_wrong_values_names_file_and_key(
    place: tuple[Any, ...], value: Any, copy: StudyFolder
) -> None:
    path = copy.path / "best.json"
    content = load_export(path)
    holder: Any = content
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ExportError) as refused:
        load_export(path)
    message = str(refused.value)
    words = " ".join(f"#{one + 1}" if isinstance(one, int) else one for one in place)
    assert message.startswith(f"{path}: {words}"), message
    assert message.isprintable()


def test_a_part_of_a_file_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("keep")
    (tmp_path / "file.part").symlink_to(outside)
    write_atomically(tmp_path / "file", lambda part: part.write_text("new"))
    assert (tmp_path / "file").read_text() == "new"
    assert not (tmp_path / "file").is_symlink()
    assert outside.read_text() == "keep"


@pytest.mark.parametrize(
    "text",
    ['"a\\ud800"', '{"a\\uDC00b": 1}', '[["\\udfff\\ud800"]]', b'"a\xed\xa0\x80"', b'"\xff"'],
)
def test_half_a_character_is_no_text(text: str | bytes) -> None:
    """It could be neither printed nor written."""
    with pytest.raises(ValueError, match=r"half a character, .u[d-f]|can't decode byte"):
        parse_json(text)


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert parse_json('["\\ud83d\\ude00", "\\u00e9"]') == ["\U0001f600", "é"]
    assert parse_json(b'"\\\\ud800"') == "\\ud800"  # an escaped backslash


def test_one_surrogate_is_one_line_of_every_command(copy: StudyFolder) -> None:
    file = copy.manifest_path
    file.write_text(file.read_text().replace('"random"', '"a\\ud800"'))
    assert "ud800" in file.read_text()
    for arguments in (("show", "out"), ("resume", "out"), ("report", "out"), ("list", ".")):
        done = barsweep(*arguments, folder=copy.path.parent)
        assert "half a character, \\ud800" in done.stdout + done.stderr
        assert done.returncode in (0, 2)
