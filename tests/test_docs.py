"""Executes the README and the pages under ``docs/``: commands, Python, study files, figures.

A page runs from top to bottom in a folder of its own. A comment before a block says how:

- ``<!-- file: NAME -->``: the block is that file, and is written.
- ``<!-- not run: REASON -->``: it needs the network or hours. ``NOT_RUN`` counts them.
- ``<!-- output not compared: REASON -->``: it is executed, but prints something else.

``console`` blocks hold commands after ``$``, and what they print; ``...`` there matches anything, and
if nothing is shown, nothing is compared.
``python`` blocks are executed, those that begin with ``>>>`` as doctests; ``toml`` blocks are read as
part of a study.
"""

from __future__ import annotations

import contextlib
import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import optimizer
from kernels import risk
from optimizer.catalogue import CLASSIFIERS, COSTS, METRICS, RISK
from optimizer.strategies.built_in import BUILT_IN
from optimizer.study_file.study import study_from_dict
from tests.support.processes import Command
from tests.support.wheel import VERSIONS, build_wheel

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
NOT_RUN = {
    "README.md": 1,
    "data.md": 1,
    "first_study.md": 1,
    "flow.md": 1,
    "results.md": 3,
    "scaling.md": 2,
    "trading.md": 1,
}
"""Blocks of each page that are not run."""

FENCE = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*) -->\n+)?^(?P<fence>```+)(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
COMMAND = re.compile(r"^\s*(\$ |barsweep |make |pip |python )", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    line: int
    kind: str
    note: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        kind, _, note = (match["note"] or "").partition(": ")
        line = text.count("\n", 0, match.start("fence")) + 1
        found.append(Block(match["language"], match["text"], line, kind, note))
    return found


class Page:
    """Runs a page's blocks in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.home = folder
        self.folder.mkdir(exist_ok=True)
        self.names: dict[str, Any] = {"__name__": "page"}

    def run(self, block: Block) -> None:
        if block.kind == "file":
            (self.folder / block.note).write_text(block.text)
        elif block.language == "console":
            self.console(block)
        elif block.language == "python":
            ledger = str(self.home / "ledger.db")
            with contextlib.chdir(self.folder), pytest.MonkeyPatch.context() as patch:
                patch.setenv("BARSWEEP_LEDGER", ledger)  # that of the page's commands
                self.python(block)
        elif block.language == "toml":
            content = tomllib.loads(block.text)
            content.setdefault("study", {"name": "page"})
            content.setdefault("data", {"path": "bars.parquet"})
            content.setdefault("strategy", {"name": "momentum"})
            study_from_dict(content, self.folder)

    def console(self, block: Block) -> None:
        assert block.text.startswith("$ "), "a console block begins with a command"
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            said = "".join(self.command(one) for one in command.split(" && "))
            if block.kind != "output not compared":
                compare(expected, said)

    def command(self, text: str) -> str:
        name, *arguments = shlex.split(text, comments=True)
        if name == "cd":
            self.folder = self.folder / arguments[0]
            return ""
        if name == "barsweep":
            home, output = self.home, self.home / "said.txt"
            own = (str(self.folder), str(home / "ledger.db"))
            done = Command(
                *arguments, output=output, prepare="tests.support.command:settle", own=own
            )
            code, said = done.wait(), done.text()
            assert "Traceback" not in said
            assert code in (0, 1, 2, 3), said
            assert (code == 2) == ("\nerror: " in f"\n{said}"), said
            return said
        assert name in ("python", "pytest"), f"{name}: not a command that this test runs"
        program = [sys.executable, *(["-m", "pytest"] if name == "pytest" else [])]
        outside = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
        ran = subprocess.run(
            [*program, *arguments],
            cwd=self.folder,
            env={**outside, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def python(self, block: Block) -> None:
        if not block.text.startswith(">>> "):
            exec(compile(block.text, f"line {block.line}", "exec"), self.names)
            return
        test = doctest.DocTestParser().get_doctest(block.text, self.names, "page", "page", 0)
        said: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        runner.run(test, out=said.append, clear_globs=False)
        self.names.update(test.globs)
        assert not said, "".join(said)


def compare(expected: str, said: str) -> None:
    """Fail if a command prints something else than its page says."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if expected.strip() and not doctest.OutputChecker().check_output(expected, said, flags):
        pytest.fail(f"the page says:\n{expected}\nthe command says:\n{said}")


def bundled_studies(folder: Path) -> None:
    """The studies of the repository, with the quickstart made small."""
    shutil.copytree(ROOT / "studies", folder / "studies")
    smaller = {
        "trials = 64 ": "trials = 2 ",
        "high = 0.15, step = 0.01": "high = 0.15, step = 0.05",
        "lookback = {choices = [30, 60]}": "lookback = 30\nrefit_bars = 1000",
    }
    path = folder / "studies" / "quickstart.toml"
    text = path.read_text()
    for old, new in smaller.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text)


def yahoo_export(folder: Path) -> None:
    """``SPY.csv`` as Yahoo writes it, with a row without values and a row that is listed twice."""
    spy = optimizer.load_bars(ROOT / "studies" / "data" / "us_daily.parquet", symbols=["SPY"])
    rows = ["Date,Open,High,Low,Close,Adj Close,Volume"]
    for i in range(spy.n_bars):
        day = str(spy.timestamps[i])[:10]
        o, h, low, c = (
            float(getattr(spy, name)[i, 0]) for name in ("open", "high", "low", "close")
        )
        rows.append(f"{day},{o},{h},{low},{c},{c},{int(spy.volume[i, 0])}")
    rows[1001] = rows[1001][:10] + ",null,null,null,null,null,null"
    (folder / "SPY.csv").write_text("\n".join([*rows, rows[-1]]) + "\n")


def project_bars(folder: Path) -> None:
    """``bars.parquet``, as a new project has it."""
    shutil.copy(ROOT / "optimizer" / "project" / "bars.parquet", folder)


PREPARED = {
    "README.md": bundled_studies,
    "quickstart.md": bundled_studies,
    "results.md": bundled_studies,
    "data.md": yahoo_export,
    "notebook.md": project_bars,
}
"""What a page finds in its folder."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_runs(page: Path, tmp_path: Path) -> None:
    """In order, from top to bottom; commands print what the page says."""
    running = Page(tmp_path)
    if page.name in PREPARED:
        PREPARED[page.name](running.folder)
    for block in blocks(page):
        if block.kind == "not run":
            continue
        try:
            running.run(block)
        except BaseException as error:
            error.add_note(f"{page.relative_to(ROOT)}, block at line {block.line}")
            raise


def test_every_block_says_what_it_is() -> None:
    """No command hides in a block that is not executed."""
    skipped: dict[str, int] = {}
    for page in PAGES:
        for block in blocks(page):
            where = f"{page.name}, line {block.line}"
            assert block.language in ("console", "python", "toml", "text"), where
            assert block.kind in ("", "not run", "file", "output not compared"), where
            assert block.kind == "" or block.note, where
            if block.language == "text":
                assert not COMMAND.search(block.text), where
            if block.kind == "not run":
                skipped[page.name] = skipped.get(page.name, 0) + 1
    assert skipped == NOT_RUN


def test_the_sizing_example_is_right() -> None:
    """Every row of the table in ``docs/sizing.md``, computed by the kernels that size orders."""
    rows = re.findall(r"^\| (.+?) \| .+ \| \*\*(.+?)\*\* \|$", page_text("sizing.md"), re.MULTILINE)
    said = {name: float(value.replace(",", "").rstrip("%")) for name, value in rows}
    kelly = risk.kelly_size(0.1 * 1.2, 0.0005 * 0.8, 1.0 / 0.01**2)
    values = {"QQQ": 20_000.0, "TLT": 10_000.0, "SPY": 5_000.0}
    weighted = values["QQQ"] * 0.75 + values["TLT"] * -0.3
    gross = sum(values.values())
    rho = risk.mean_correlation(weighted, gross, values["SPY"])
    adjustment = risk.correlation_adjustment(0.5, rho)
    inverse = risk.inverse_of_lot(50.0)
    wanted = risk.target_size(1.0, kelly * adjustment, 1.0, 100_000.0, inverse, None)
    addition = risk.placed_order(wanted, 100.0, 1.0, 1.0, 0.1, None)
    added = addition * 50.0 + 200.0 * 83.0
    left = risk.budget_left(0.6, 100_000.0, gross, values["TLT"])
    share = risk.budget_share(left, added)
    order = risk.shared_order(addition, 100.0, share, 1.0, 1.0, 0.1, None)
    assert risk.shared_order(200.0, 0.0, share, 1.0, 1.0, 0.1, None) == 140.0
    larger = risk.budget_left(0.8, 100_000.0, gross, values["TLT"])
    assert risk.budget_share(larger, added) == 1.0
    expected = {
        "Kelly fraction": kelly,
        "mean correlation": rho,
        "correlation adjustment": adjustment,
        "wanted": wanted,
        "addition": addition,
        "all additions": added,
        "budget": left,
        "budget share": share,
        "order": order,
        "target": 100.0 + order,
        "band": 0.1 * (100.0 + order),
    }
    assert said == pytest.approx(expected, rel=1e-9)


def test_the_translated_studies_trade(tmp_path: Path) -> None:
    """Each study file of ``docs/coming_from.md`` runs on the bars of a new project, and places orders."""
    shutil.copy(ROOT / "optimizer" / "project" / "bars.parquet", tmp_path)
    translated = [one for one in blocks(DOCS / "coming_from.md") if one.language == "toml"]
    assert len(translated) == 3
    for block in translated:
        content = tomllib.loads(block.text)
        content |= {"study": {"name": "page", "seed": 1}, "data": {"path": "bars.parquet"}}
        study = study_from_dict(content, tmp_path)
        result = optimizer.run_study(study, workers=1, out=tmp_path / f"line_{block.line}")
        assert result.best(1)["n_trades"].iloc[0] > 0, f"line {block.line}"


def page_text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_every_number_and_parameter_is_explained() -> None:
    """A new metric or parameter needs its place in the pages."""
    numbers = page_text("numbers.md")
    assert [name for name in METRICS if f"`{name}`" not in numbers] == []
    study_file = page_text("study_file.md")
    strategies = ((name, strategy.parameters) for name, strategy in BUILT_IN.items())
    unprefixed = (("risk", RISK), ("costs", COSTS))
    for owner, parameters in (*strategies, *CLASSIFIERS.items(), *unprefixed):
        for one in parameters:
            default = f'"{one.span}"' if one.span else one.kind(one.default)
            row = f"| `{one.name}` | {default} | {one.summary} |"
            assert row in study_file, (owner, row)


def test_every_command_is_in_the_table() -> None:
    """All commands, and no others."""
    import typer.main

    from optimizer.cli.app import app

    def paths(command: Any, name: str) -> set[str]:
        inner = getattr(command, "commands", {})
        return set().union(*(paths(one, f"{name} {key}") for key, one in inner.items())) or {name}

    table = re.findall(r"^\| `(barsweep [^`]*)`", page_text("commands.md"), re.MULTILINE)
    known = paths(typer.main.get_command(app), "barsweep")
    said = {name for row in table for name in known if f"{row} ".startswith(f"{name} ")}
    assert said == known
    assert len(table) == len(known)


def test_every_page_is_in_the_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().split("nav:\n")[1]
    listed = re.findall(r"^  - .+: (\w+\.md)$", nav, re.MULTILINE)
    assert {page.name for page in DOCS.glob("*.md")} <= set(listed)


def test_the_site_is_built_and_asks_for_nothing_else(tmp_path: Path) -> None:
    """No page loads anything from another host, so all of them can be read offline."""
    built = subprocess.run(
        # Not -q: it silences the warnings that --strict counts.
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    loads = re.compile(
        r"<(?:script|img|iframe|source|video)[^>]*\ssrc=[\"']?(?:https?:)?//[^>]*>"
        r"|<link(?![^>]*rel=[\"']?canonical)[^>]*\shref=[\"']?(?:https?:)?//[^>]*>"
    )
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(list(DOCS.glob("*.md")))
    for page in pages:
        assert not loads.findall(page.read_text(encoding="utf-8")), page
    for style in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text()), style
    api = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    codes = {"FLAT", "HOLD", "LONG", "SHORT", "BEAR", "NEUTRAL", "BULL"}
    for name in set(optimizer.__all__) - {*codes, "errors"}:
        assert re.search(rf"id=\"optimizer(\.\w+)*\.{name}\"|id=\"kernels\.\w+\.{name}\"", api), (
            name
        )


def test_the_wheel_holds_all_that_a_user_needs(tmp_path: Path) -> None:
    """Every module and data file of both packages, and nothing of the tests; see ``support.wheel``."""
    wheel = build_wheel(tmp_path)
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "kernels", "optimizer"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert sorted(set(tracked) - names) == []
    assert {name.split("/")[0] for name in names} == {
        "kernels",
        "optimizer",
        f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info",
    }


def test_supported_versions_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert tuple(declared) == VERSIONS
    assert project["requires-python"] == f">={VERSIONS[0]}"
