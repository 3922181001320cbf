"""Commands that import and download bars."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from optimizer.cli.console import say

data = typer.Typer(help="Import bars from other programs, or download them.", no_args_is_help=True)

OutFile = Annotated[Path, typer.Option("--out", help="The Parquet file to write.")]
Calendar = Annotated[
    Optional[str],
    typer.Option(help="Exchange whose sessions the days are checked against, such as XNYS."),
]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace the file that --out names.")]
DropBadRows = Annotated[
    bool, typer.Option("--drop-bad-rows", help="Drop rows that are not valid bars.")
]
DropDuplicates = Annotated[
    bool,
    typer.Option("--drop-duplicates", help="Keep the first of several rows with the same time."),
]
ZeroVolume = Annotated[
    bool, typer.Option("--zero-volume", help="Write volume 0 where it is missing or unknown.")
]
Adjust = Annotated[
    bool,
    typer.Option("--adjust", help="Scale prices to the adjusted closes, where a file has them."),
]


@data.command("import")
def import_data(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Files to read.")],
    out: OutFile,
    symbol: Annotated[
        Optional[str], typer.Option(help="Symbol, where the file names none.")
    ] = None,
    timezone: Annotated[str, typer.Option(help="Time zone of times that carry none.")] = "UTC",
    calendar: Calendar = None,
    drop_bad_rows: DropBadRows = False,
    drop_duplicates: DropDuplicates = False,
    sort: Annotated[bool, typer.Option("--sort", help="Sort rows by symbol and time.")] = False,
    adjust: Adjust = False,
    zero_volume: ZeroVolume = False,
    overwrite: Replace = False,
) -> None:
    """Convert files of bars that other programs and data vendors write."""
    from optimizer.bars.fixes import Fixes
    from optimizer.bars.importing import import_bars

    fixes = Fixes(drop_bad_rows, drop_duplicates, sort, adjust, zero_volume)
    with _import_report() as show_report:
        show_report(
            import_bars(
                files,
                out,
                symbol=symbol,
                timezone=timezone,
                calendar=calendar,
                fixes=fixes,
                overwrite=overwrite,
            )
        )


@data.command("fetch")
def fetch_data(
    source: Annotated[str, typer.Argument(help="yahoo, or an exchange of ccxt, such as binance.")],
    symbols: Annotated[
        list[str], typer.Argument(metavar="SYMBOLS...", help="Such as SPY, BTC/USDT.")
    ],
    start: Annotated[str, typer.Option(help="First day, such as 2015-01-31.")],
    out: OutFile,
    end: Annotated[Optional[str], typer.Option(help="Last day [default: today].")] = None,
    bar: Annotated[str, typer.Option(help="Bar size, such as 1d, 1h or 5m.")] = "1d",
    calendar: Calendar = None,
    drop_bad_rows: DropBadRows = False,
    drop_duplicates: DropDuplicates = False,
    adjust: Adjust = False,
    zero_volume: ZeroVolume = False,
    overwrite: Replace = False,
) -> None:
    """Download bars from Yahoo (extra `yahoo`) or a crypto exchange (extra `crypto`)."""
    from optimizer.bars.fetch import fetch_bars
    from optimizer.bars.fixes import Fixes

    fixes = Fixes(drop_bad_rows, drop_duplicates, adjust=adjust, zero_volume=zero_volume)
    with _import_report() as show_report:
        show_report(
            fetch_bars(
                source,
                symbols,
                out,
                start=start,
                end=end,
                bar=bar,
                calendar=calendar,
                fixes=fixes,
                overwrite=overwrite,
            )
        )


@contextlib.contextmanager
def _import_report() -> Iterator[Any]:
    """Print the report of an import, even if the bars are refused in the end."""
    from optimizer.bars.import_report import ImportRefusedError, ImportReport

    def show_report(report: ImportReport) -> None:
        for line in report.lines():
            say(line)

    try:
        yield show_report
    except ImportRefusedError as error:
        show_report(error.report)
        raise
