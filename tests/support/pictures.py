"""Pictures of the gallery's reports for its page: verdict and equity, as Chromium draws them.

Run: ``python -m tests.support.pictures FOLDER [STUDY ...]``. Each study is run with a ledger of its own,
as the table of the page says: nothing else was tried on its bars.
"""

from __future__ import annotations

import base64
import io
import os
import sys
import tempfile
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from optimizer.project.new import templates
from optimizer.search.run import run_study
from optimizer.study_file.load import load_study
from optimizer.views.report import write_report
from tests.support.browser import browser

GALLERY = Path("studies") / "gallery"
WIDTH = 760
"""Of the page in the browser, in its pixels, which are those of a picture too."""

COLORS = 64
"""Of a picture, which makes it a third as large."""


def picture_of(driver: webdriver.Chrome, report: Path) -> bytes:
    """A PNG of a report from its verdict to the end of the figure of equity, in the light theme.

    Args:
        driver: the browser.
        report: the file of the report.
    """
    metrics = {"width": WIDTH, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    light = {"name": "prefers-color-scheme", "value": "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [light]})
    driver.get(report.as_uri())
    plot = "document.querySelector('.plot[data-figure=equity]')"
    driver.execute_script(f"{plot}.scrollIntoView({{behavior: 'instant'}})")
    drawn = f"return {plot}.querySelector('svg.main-svg') !== null"
    WebDriverWait(driver, 60).until(lambda _: driver.execute_script(drawn))
    driver.execute_script("scrollTo(0, 0)")
    top, bottom = (
        driver.execute_script(f"return {one} + scrollY")
        for one in (
            "document.querySelector('#verdict').getBoundingClientRect().top",
            f"{plot}.getBoundingClientRect().bottom",
        )
    )
    clip = {"x": 0, "y": top, "width": WIDTH, "height": bottom - top, "scale": 1}
    taken = driver.execute_cdp_cmd(
        "Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True}
    )
    picture = Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")
    content = io.BytesIO()
    picture.quantize(COLORS, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    return content.getvalue()


def main() -> None:
    """Write a picture for each study of the gallery, or for those that are named."""
    pictures, *wanted = sys.argv[1:]
    Path(pictures).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, browser(Path(scratch) / "profile") as driver:
        for name in wanted or templates():
            out = Path(scratch) / name
            os.environ["BARSWEEP_LEDGER"] = str(Path(scratch) / f"{name}.db")
            run_study(load_study(GALLERY / f"{name}.toml"), out=out, workers=1)
            file = Path(pictures) / f"{name}.png"
            file.write_bytes(picture_of(driver, write_report(out)))
            print(f"{file}: {file.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
