"""One self-contained HTML file that shows a study: ``write_report``.

The page opens offline and asks for nothing outside itself, which its content security policy
enforces. Whatever has a row for each set is binned, so its size does not grow with the study.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from optimizer.errors import ExportError, StudyError
from optimizer.store.combination import is_combination
from optimizer.store.export import read_content
from optimizer.store.folder import StudyFolder
from optimizer.store.guards import HTML, check_output, write_output
from optimizer.store.names import STRESS_PAGE


def write_report(
    folder: str | os.PathLike[str],
    out: str | Path | None = None,
    *,
    number: int | None = None,
    data: str | Path | None = None,
    trust: bool = False,
    on_start: Callable[[], None] | None = None,
) -> Path:
    """Write the report of a study, finished or not.

    Without leave to run the strategy's file it has no equity, trades, regimes and refusals, and says
    why. It links the page that ``barsweep stress`` wrote in the folder.

    >>> import optimizer
    >>> optimizer.write_report("out").name
    'report.html'

    Of a combination it is a page of the whole, see ``write_book_report``.

    Args:
        folder: the folder that ``run_study`` wrote, or the file of a combination.
        out: the file; None takes ``report.html`` in the folder, or ``report-NUMBER.html``; of a
            combination its name with the ending .html.
        number: the number of the set that the report is about; None takes the winner.
        data: the bars of a combination, where they are no longer at the path that its file names.
        trust: approve the strategy files that the folder names, for good. You need not for what you
            ran yourself.
        on_start: called once the study is read, before what takes long.

    Returns:
        The file written.

    Raises:
        StudyError: there is no study in the folder, it has no results yet or no such set, or a file
            cannot be read or written.
        ExportError: a combination cannot be used.
        DataError: its bars cannot be used.
    """
    file = Path(folder)
    if file.is_file() and file.suffix.lower() == ".json" and is_combination(read_content(file)):
        from optimizer.views.book import write_book_report

        if number is not None:
            raise ExportError(
                f"{file}: a combination has no report of one set; `barsweep tearsheet --set {number}`"
                " gives a page of it"
            )
        if on_start is not None:
            on_start()
        return write_book_report(file, out, data=data, trust=trust)
    if data is not None:
        raise StudyError(f"{file}: --data is for the file of a combination; a study names its bars")
    # Here and not above: plotly and what it draws take a second to import.
    from optimizer.views.report.content import gather
    from optimizer.views.report.page import page

    StudyFolder.open(Path(folder))  # refuses what is none before a file in it is
    name = "report.html" if number is None else f"report-{number}.html"
    path = Path(out) if out is not None else Path(folder) / name
    check_output(path, HTML, "a report")
    content = gather(Path(folder), trust, on_start, number=number)
    text = page(content, _stress_address(Path(folder), path))
    write_output(path, text)
    return path


def _stress_address(folder: Path, report: Path) -> str:
    """The address of a study's page of stress as its report has it; empty if there is no such page."""
    page = folder / STRESS_PAGE
    if not page.is_file():
        return ""
    return quote(os.path.relpath(page.resolve(), report.parent.resolve()))
