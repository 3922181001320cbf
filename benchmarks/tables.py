"""Tables of README.md and other pages, and files of results/, written by the scripts in this folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from optimizer.bench.machine import Machine

FOLDER = Path(__file__).parent
README = FOLDER / "README.md"
RESULTS = FOLDER / "results"


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def describe(machine: Machine) -> str:
    """The line above a table."""
    return (
        f"Measured on {machine.processor}, {machine.cores} cores, Python {machine.python}, numba"
        f" {machine.numba}, numpy {machine.numpy}."
    )


def publish(
    name: str, text: str, content: Any, page: Path = README, results: Path = RESULTS
) -> None:
    """Put ``text`` between the markers of ``name`` in the page, ``content`` into results/.

    Raises:
        ValueError: the page has no such markers.
    """
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    whole = page.read_text(encoding="utf-8")
    before, opened, rest = whole.partition(start)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"{page}: no {start} followed by {end}")
    page.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}", encoding="utf-8")
    results.mkdir(exist_ok=True)
    (results / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
