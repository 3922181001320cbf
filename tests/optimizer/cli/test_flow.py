"""The event flow's commands."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from optimizer.cli import main
from tests.support.processes import wait_until
from tests.support.studies import random_bars, write_bars

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer

STUDY = """
[study]
name = "small"
[data]
path = "bars.parquet"
[strategy]
name = "momentum"
lookback = {choices = [5, 10]}
[risk]
kelly_fraction = {sweep = [0.05, 0.1]}
correlation_lookback = 10
[search]
sampler = "grid"
"""


def barsweep(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command in this process, which saves the start of another one."""
    before = {key: os.environ.pop(key) for key in ("PGPASSWORD",) if key in os.environ}
    os.environ.update(variables)
    output, messages = io.StringIO(), io.StringIO()
    try:
        with (
            contextlib.chdir(folder),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(messages),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(sys, "argv", ["barsweep", *arguments])
            with pytest.raises(SystemExit) as left:
                main.main()
    finally:
        for key in variables:
            del os.environ[key]
        os.environ.update(before)
    code = left.value.code
    assert code is None or isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code or 0, output.getvalue(), messages.getvalue())


def pasted(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a shell makes of a line that begins with barsweep; only the splitting needs a shell."""
    assert command.startswith("barsweep ")
    line = f"barsweep() {{ printf '%s\\0' \"$@\"; }}; {command}"
    given = subprocess.run(line, shell=True, capture_output=True, text=True, check=True).stdout
    return barsweep(*given.split("\0")[:-1], folder=folder)


def refused(*arguments: str, folder: Path, **variables: str) -> str:
    """The one line by which a command refuses."""
    done = barsweep(*arguments, folder=folder, **variables)
    assert done.returncode == 2, (arguments, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def hinted(output: str) -> list[str]:
    """Arguments of the command that a flow prints for the next step, as a shell would split them."""
    words = shlex.split(output.rpartition("next:")[2].strip())
    assert words[0] == "barsweep"
    return words[1:]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_bars(tmp_path / "bars.parquet", random_bars())
    (tmp_path / "small.toml").write_text(STUDY)
    return tmp_path


def with_database(folder: Path, url: str, name: str = "small") -> None:
    text = STUDY.replace('"small"', f'"{name}"')
    (folder / f"{name}.toml").write_text(f"{text}\n[analytics]\nurl = {json.dumps(url)}\n")


def test_flow_trace_and_their_refusals(folder: Path) -> None:
    done = pasted("""barsweep flow small.toml --out "out/a flow's" """, folder)
    assert done.returncode == 0, done.stderr
    # What is announced is what is run: no step of the warm-up's 20 bars counts.
    # Nor one of the holdout, the last 56 of 280.
    assert "2 portfolios x 224 bars (after 20 for warm-up) x 3 symbols: 1,344 steps" in done.stdout
    assert "2 portfolios, 1,344 steps of bar x symbol x portfolio" in done.stdout
    command = hinted(done.stdout)
    assert command[:2] == ["trace", "out/a flow's"]
    chain = pasted(done.stdout.rpartition("next:")[2].strip(), folder)
    assert chain.returncode == 0, chain.stderr
    parts = ["bar of the decision", "signal", "regime", "order", "fill", "portfolio at the close"]
    places = [chain.stdout.index(f"\n{part}") for part in parts]
    assert places == sorted(places)
    for value in ("wanted", "budget share", "target", "cash after", "momentum_", "bar id"):
        assert value in chain.stdout
    assert "None" not in chain.stdout
    rejects = barsweep("trace", "out/a flow's", "--rejects", folder=folder)
    assert rejects.returncode == 0
    counted = dict(re.findall(r"^ +([\d,]+)  (\w+)$", rejects.stdout, re.MULTILINE))
    assert ", ".join(f"{name} {n}" for n, name in counted.items()) in done.stdout
    listed = barsweep("trace", "out/a flow's", "--fills", "--top", "3", folder=folder)
    assert listed.returncode == 0, listed.stderr
    assert command[-1] in listed.stdout and len(listed.stdout.splitlines()) == 1 + 3
    everything = barsweep(
        "flow", "small.toml", "--risk", "all", "--no-trace", "--out", "all", folder=folder
    )
    assert "4 portfolios" in everything.stdout
    assert not (folder / "all").exists()
    (folder / "old").mkdir()
    (folder / "old" / "analytics.db").touch()
    (folder / "mine").mkdir()
    (folder / "mine" / "flow.json").write_text('{"kind": "something of mine"}')
    once = pasted("barsweep trace nowhere --rejects", folder)
    assert (once.returncode, once.stderr.count("\n"), once.stdout) == (2, 1, "")
    for wrong, words in (
        (("flow", "small.toml", "--out", "out/a flow's"), "already holds a flow; .* --overwrite"),
        (("flow", "none.toml"), r"none\.toml: no such file"),
        (("flow", "."), r"\.: a folder; expected a study file"),
        (("flow", "small.toml", "--out", "small.toml"), r"small\.toml: names a file where a fold"),
        (("flow", "small.toml", "--out", "small.toml/x"), "names a file where a folder is needed"),
        (("flow", "small.toml", "--out", "/proc/flow"), "/proc/flow: cannot be written: "),
        (
            ("flow", "small.toml", "--out", "mine", "--overwrite"),
            r"flow\.json: this barsweep did not write it",
        ),
        (("trace", "out/a flow's", "nope"), "no fill 'nope'; the nearest are .*fill"),
        (("trace", "out/a flow's"), "give a FILL_ID, --fills, which lists them, or --rejects"),
        (("trace", "out/a flow's", "x", "--fills"), "give a FILL_ID, --fills"),
        (("trace", "nowhere", "--rejects"), "nowhere: no flow here"),
        (("trace", ".", "x"), r"\.: no flow here; expected a folder that `barsweep flow` wrote"),
        (("trace", "small.toml", "x"), r"small\.toml: no flow here"),
        (("trace", "old", "x"), "old: holds a flow of an earlier barsweep"),
        (("trace", "mine", "x"), r"mine/flow\.json: this barsweep did not write it"),
        (("analytics", "import", "nothing.jsonl"), r"nothing\.jsonl: .*No such file"),
        (("analytics", "import", "small.toml"), r"small\.toml: line 1: this is not a spill file"),
    ):
        line = refused(*wrong, folder=folder)
        assert re.search(words, line), line
    assert (folder / "mine" / "flow.json").read_text() == '{"kind": "something of mine"}'


def test_a_long_flow_is_refused_unless_it_is_let(folder: Path) -> None:
    """1,344 steps are estimated at 0.05 s."""
    line = refused("flow", "small.toml", "--max-seconds", "0.01", folder=folder)
    assert "small.toml: 2 portfolios" in line
    assert "more than --max-seconds 0.01" in line
    assert not (folder / "out").exists()
    (let,) = re.findall(r"allow it with (--max-seconds \d+)$", line)
    done = barsweep("flow", "small.toml", *let.split(), folder=folder)
    assert done.returncode == 0, done.stderr
    write_bars(folder / "bars.parquet", random_bars(20_000))
    many = STUDY.replace("[5, 10]", str(list(range(2, 80))))
    (folder / "many.toml").write_text(many)
    line = refused("flow", "many.toml", folder=folder)
    assert "78 portfolios" in line
    assert "more than --max-seconds 120" in line


def test_a_flow_that_is_stopped_says_what_stays(folder: Path) -> None:
    write_bars(folder / "bars.parquet", random_bars(3000))
    (folder / "small.toml").write_text(STUDY.replace("[5, 10]", str(list(range(2, 26)))))
    command = [sys.executable, "-m", "optimizer", "flow", "small.toml", "--out", "traced"]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    database = folder / "traced" / "analytics.db"

    def traced() -> bool:
        if process.poll() is not None:
            return True
        with contextlib.suppress(sqlite3.Error), sqlite3.connect(database) as connection:
            return bool(connection.execute("SELECT count(*) FROM portfolios").fetchone()[0])
        return False

    assert wait_until(lambda: database.exists() and traced())
    process.terminate()
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 143, messages
    assert messages == (
        "terminated; the bars traced so far are kept in traced, but a flow cannot be resumed:"
        " start again with `barsweep flow --overwrite`, or remove the folder\n"
    )
    assert barsweep("trace", "traced", "--rejects", folder=folder).returncode == 0


def test_overwrite_deletes_nothing_before_the_flow_can_start(folder: Path) -> None:
    assert barsweep("flow", "small.toml", folder=folder).returncode == 0
    place = folder / "out" / "small-flow"
    (place / "spill.jsonl").write_text("rows\n")
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    assert {"flow.json", "analytics.db", "spill.jsonl"} <= before.keys()
    few = {"market": '[classifier]\nname = "hmm"\nmarket = "ZZZ"\n', "long": "", "gone": ""}
    for name, more in few.items():
        text = STUDY.replace("[risk]", f"{more}[risk]")
        if name == "long":
            text = text.replace("[5, 10]", "[5, 299]")
        if name == "gone":
            text = text.replace("bars.parquet", "gone.parquet")
        (folder / f"{name}.toml").write_text(text)
    with_database(folder, "postgresql://u:hunter2@127.0.0.1:1/a", "port")
    with_database(folder, "sqlite:///nowhere/a.db", "sqlite")
    for name, words in (
        ("market", "no symbol 'ZZZ'"),
        ("long", "needs 299 for warm-up"),
        ("gone", "gone.parquet: "),
        ("port", "postgresql://u@127.0.0.1:1/a: cannot be used for analytics: "),
        ("sqlite", "nowhere/a.db: its folder does not exist"),
    ):
        out = ("--out", "out/small-flow", "--overwrite")
        line = refused("flow", f"{name}.toml", *out, folder=folder)
        assert words in line
        assert "hunter2" not in line
        assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    again = barsweep("flow", "small.toml", "--overwrite", folder=folder)
    assert again.returncode == 0, again.stderr
    assert not (place / "spill.jsonl").exists()
    assert barsweep(*hinted(again.stdout), folder=folder).returncode == 0


def test_a_database_that_the_study_names(folder: Path) -> None:
    with_database(folder, "sqlite:///shared.db", "one")
    with_database(folder, "sqlite:///shared.db", "two")
    other = random_bars(200, ("AAA", "BBB"), 5)
    write_bars(folder / "other.parquet", other)
    two = folder / "two.toml"
    two.write_text(two.read_text().replace("bars.parquet", "other.parquet"))
    for name in ("one", "two"):
        done = barsweep("flow", f"{name}.toml", folder=folder)
        assert done.returncode == 0, done.stderr
        command = hinted(done.stdout)
        # Read back from another folder: where the database is does not depend on it.
        (folder / "elsewhere").mkdir(exist_ok=True)
        command[1] = str(folder / command[1])
        chain = barsweep(*command, folder=folder / "elsewhere")
        assert chain.returncode == 0, chain.stderr
        rejects = barsweep("trace", command[1], "--rejects", folder=folder / "elsewhere")
        counted = re.findall(r"^ +([\d,]+)  (\w+)$", rejects.stdout, re.MULTILINE)
        assert ", ".join(f"{reason} {n}" for n, reason in counted) in done.stdout
    with sqlite3.connect(folder / "shared.db") as connection:
        assert connection.execute("SELECT count(*) FROM portfolios").fetchone() == (4,)
    assert not (folder / "out" / "one-flow" / "analytics.db").exists()


def test_a_password_is_kept_nowhere(folder: Path, postgres_server: PostgresServer) -> None:
    url = postgres_server.url(postgres_server.new_database())
    with_database(folder, url)
    done = barsweep("flow", "small.toml", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "in the environment variable PGPASSWORD" in done.stdout
    out = folder / "out" / "small-flow"
    record = (out / "flow.json").read_text()
    name = url.rpartition("/")[2]
    masked = f"postgresql://barsweep@127.0.0.1:{postgres_server.port}/{name}"
    assert json.loads(record)["database"] == masked
    command = hinted(done.stdout)
    line = refused(*command, folder=folder)
    assert "password authentication failed" in line
    assert "PGPASSWORD" in line
    assert "--database" in line
    given = {"PGPASSWORD": postgres_server.password}
    for right in (
        barsweep(*command, folder=folder, **given),
        barsweep(*command, "--database", url, folder=folder),
        barsweep("trace", str(out), "--rejects", folder=folder, **given),
    ):
        assert right.returncode == 0, right.stderr
    wrong = refused(*command, folder=folder, PGPASSWORD="hunter2")
    # Rows that a failed database did not take find their way back in the same manner.
    spill = folder / "spill.jsonl"
    header = {"file": "barsweep analytics spill", "schema": "5", "database": masked}
    bar = {"bar": 1, "rows": {"regimes": [["r", "k", 1, 0]]}}
    spill.write_text(f"{json.dumps(header)}\n{json.dumps(bar)}\n")
    missing = refused("analytics", "import", "spill.jsonl", folder=folder)
    assert "PGPASSWORD" in missing
    closed = url.replace(str(postgres_server.port), "1")
    no_port = refused("analytics", "import", "spill.jsonl", "--database", closed, folder=folder)
    assert "127.0.0.1:1/" in no_port
    imported = barsweep("analytics", "import", "spill.jsonl", folder=folder, **given)
    assert imported.stdout == "imported 1 row\n", imported.stderr
    secrets = (postgres_server.password, url.partition("barsweep:")[2].partition("@")[0], "hunter2")
    for text in (record, done.stdout, line, wrong, missing, no_port, imported.stdout):
        assert not any(secret in text for secret in secrets)
