"""The report in a real browser: Debian's Chromium, headless."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from optimizer.review.unseal import unseal_study
from optimizer.search.run import run_study
from optimizer.views.report import write_report
from optimizer.views.report.style import DARK, LIGHT
from tests.support.browser import CHROMIUM, DRIVER, browser
from tests.support.studies import random_bars, small_study, write_bars

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium and chromedriver: .ci/chromium installs them"
)
SYMBOLS = ("<img src=x onerror=alert(1)>", "</script><b>B", 'C"&amp;')


class Page:
    """The report, open in a browser."""

    def __init__(self, driver: webdriver.Chrome, path: Path) -> None:
        self.driver = driver
        self.path = path
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.first = 0

    def open(self) -> None:
        self.driver.get(self.path.as_uri())
        WebDriverWait(self.driver, 60).until(
            lambda _: self.js("return document.documentElement.dataset.drawn") == "yes"
        )

    def draw_all(self) -> None:
        """Scroll every figure into view, one after the other."""
        for number in range(self.js("return document.querySelectorAll('.plot').length")):
            plot = f"document.querySelectorAll('.plot')[{number}]"
            self.js(f"{plot}.scrollIntoView({{behavior: 'instant'}})")
            self.until(f"return {plot}.querySelector('svg.main-svg') !== null")
        self.js("scrollTo(0, 0)")

    def js(self, code: str, *values: Any) -> Any:
        return self.driver.execute_script(code, *values)

    def emulate(self, width: int = 1200, media: str = "", dark: bool = False) -> None:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": media, "features": [scheme]}
        )

    def until(self, code: str, *values: Any) -> None:
        """Wait for something that a change brings about."""
        WebDriverWait(self.driver, 20).until(lambda _: self.js(code, *values), message=code)

    def collect(self) -> None:
        """Note what was asked for and complained about since the last time."""
        for entry in self.driver.get_log("performance"):  # type: ignore[no-untyped-call]
            message = json.loads(entry["message"])["message"]
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                params = message["params"]
                self.requests.append(params.get("request", params)["url"])
        # The browser's own first page; what a page holds itself is no request.
        own = ("chrome:", "chrome-untrusted:", "about:", "data:", "blob:")
        self.requests = [url for url in self.requests if not url.startswith(own)]
        self.complaints += [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def column(self, place: int) -> list[str]:
        """Text of the rows of the trades table that are shown."""
        found: list[str] = self.js(
            "return [...document.querySelectorAll('#trades-table tbody tr')]"
            ".filter(r => !r.hidden).map(r => r.cells[arguments[0]].textContent)",
            place,
        )
        return found


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    write_bars(folder / "bars.parquet", random_bars(symbols=SYMBOLS))
    regimes = {"name": "hmm", "lookback": 10, "train_bars": 100, "refit_bars": 100}
    study = small_study(folder / "bars.parquet", classifier={**regimes, "market": SYMBOLS[0]})
    run_study(study, out=folder / "out", workers=1)
    unseal_study(folder / "out")
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        page = Page(driver, write_report(folder / "out"))
        page.emulate()
        page.open()
        first = page.js("return document.querySelectorAll('.plot svg.main-svg').length")
        page.draw_all()
        page.first = first
        yield page


@pytest.fixture
def page(opened: Page) -> Page:
    """As it is first seen."""
    opened.emulate()
    return opened


def test_every_figure_is_drawn(page: Page) -> None:
    figures = page.js(
        """return [...document.querySelectorAll('.plot')].map(plot => {
            const svg = plot.querySelector('svg.main-svg').getBoundingClientRect();
            const marks = plot.querySelectorAll(
                '.scatterlayer path, .barlayer path, .heatmaplayer image, .shapelayer path');
            const sized = [...marks].filter(m => m.getBoundingClientRect().width > 1);
            return [plot.dataset.figure, svg.width, svg.height, sized.length];
        })"""
    )
    assert {name for name, *_ in figures} == {
        *("equity", "scatter", "overfitting", "walk_forward", "importance", "heatmap"),
        *("parallel", "history", "regimes", "costs", "refusals"),
        *("years", "over_time", "by_symbol", "prices"),
    }
    # Only those near the first screen were drawn before the others came into view.
    assert 0 < page.first < page.js("return document.querySelectorAll('.plot svg.main-svg').length")
    for name, width, height, marks in figures:
        assert width > 300 and height > 100 and marks > 0, name
    titles = page.js(
        "return [...document.querySelectorAll('.plot')].map(p => [p.dataset.figure, "
        "[...p.querySelectorAll('.xtitle, .ytitle, .y2title')].map(t => t.textContent)])"
    )
    for name, found in titles:
        assert name in ("parallel", "importance", "refusals", "by_symbol") or len(found) >= 2, name
    # The colours of bear and bull are behind the price.
    assert page.js("return document.querySelectorAll('[data-figure=regimes] image').length") == 1


def test_nothing_leaves_the_file_and_nothing_is_complained_of(page: Page) -> None:
    page.collect()
    assert page.path.as_uri() in page.requests
    assert set(page.requests) == {page.path.as_uri()}
    assert page.complaints == []
    buttons = page.js(
        "return [...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)"
    )
    assert buttons and not [one for one in buttons if "loud" in one or "Edit" in one]


def test_the_policy_would_stop_a_request(page: Page) -> None:
    refused = page.js(
        "return fetch('http://127.0.0.1:9/').then(() => 'sent', error => String(error))"
    )
    assert "TypeError" in refused
    log = page.driver.get_log("browser")  # type: ignore[no-untyped-call]
    assert any("Content Security Policy" in entry["message"] for entry in log)
    page.driver.get_log("performance")  # type: ignore[no-untyped-call]


def test_names_are_text(page: Page) -> None:
    assert page.driver.title == "small: barsweep report"
    assert page.js("return document.querySelectorAll('main img, main script').length") == 0
    assert set(page.column(0)) <= set(SYMBOLS)
    facts = page.driver.find_element(By.TAG_NAME, "header").text
    assert all(symbol in facts for symbol in SYMBOLS)
    price = "return document.querySelector('[data-figure=regimes] .y2title').textContent"
    assert page.js(price) == f"{SYMBOLS[0]}, close"
    assert page.js("return document.documentElement.lang") == "en"


def test_heatmaps_follow_the_selects(page: Page) -> None:
    def shown() -> tuple[str, str]:
        x, y = page.js(
            "const l = document.querySelector('[data-figure=heatmap]').layout;"
            "return [l.xaxis.title.text, l.yaxis.title.text]"
        )
        return x, y

    first, second, statistic = (
        Select(page.driver.find_element(By.ID, name)) for name in ("first", "second", "statistic")
    )
    names = [option.text for option in first.options]
    assert len(names) == 5
    assert shown() == (names[0], names[1])
    second.select_by_visible_text(names[3])
    page.until(
        "return document.querySelector('[data-figure=heatmap] .ytitle').textContent === arguments[0]",
        names[3],
    )
    # The same one twice: the two change places.
    first.select_by_visible_text(names[3])
    assert second.first_selected_option.text == names[0]
    assert set(shown()) == {names[0], names[3]}
    cells = "return document.querySelector('[data-figure=heatmap]').data[0].hovertemplate"
    assert "median sharpe" in page.js(cells)
    statistic.select_by_value("best")
    assert "best sharpe" in page.js(cells)
    page.until(
        "return [...document.querySelectorAll('[data-figure=heatmap] .scatterlayer path.js-line')]"
        ".some(line => line.getBoundingClientRect().width > 5)"
    )


def test_the_equity_is_on_the_first_screen(page: Page) -> None:
    for width in (1400, 420):
        page.emulate(width=width)
        page.until("return innerWidth === arguments[0]", width)
        top = page.js(
            "return scrollY"
            " + document.querySelector('[data-figure=equity]').getBoundingClientRect().top"
        )
        assert 0 < top < 600, width  # of the 900 pixels of a screen


def test_the_equity_is_sketched_before_any_script_runs(page: Page) -> None:
    box = "getBoundingClientRect()"
    shown = (
        "const plot = document.querySelector('[data-figure=equity]');"
        f"return [plot.{box}.right, ...['.sketch svg', 'rect', 'polyline'].map("
        f"one => [...plot.querySelectorAll(one)].map(found => found.{box}.toJSON()))]"
    )
    assert page.js("return document.querySelectorAll('.sketch').length") == 0
    page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.driver.get(page.path.as_uri())
        assert page.js("return document.querySelectorAll('svg.main-svg').length") == 0
        end, (area,), (holdout,), lines = page.js(shown)
        legend = page.js("return document.querySelector('.sketch span').textContent")
    finally:
        page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    page.open()
    page.draw_all()
    assert area["width"] > 800 and 0 < end - area["right"] < 30
    assert abs(holdout["right"] - area["right"]) < 1 and holdout["width"] < area["width"] / 2
    # The winner and buy and hold, each with its drawdown, over all of the width; the median set's
    # holdout is sealed or not, as the winner's is.
    assert len(lines) == 6
    for line in lines:
        assert line["left"] > area["left"] - 2 and line["right"] < area["right"] + 2
        assert line["width"] > area["width"] / 2 and line["height"] > 1
    assert legend.split()[:2] == ["winner,", "set"] and "median set" in legend


def test_prices_follow_the_select(page: Page) -> None:
    select = Select(page.driver.find_element(By.ID, "symbol"))
    assert {option.text for option in select.options} == set(SYMBOLS)
    title = "return document.querySelector('[data-figure=prices] .ytitle').textContent"
    for option in select.options:
        select.select_by_visible_text(option.text)
        page.until(f"{title} === arguments[0]", f"{option.text}, close")


def test_equity_can_be_logarithmic(page: Page) -> None:
    box = page.driver.find_element(By.CSS_SELECTOR, "[data-log=equity]")
    kind = "return document.querySelector('[data-figure=equity]')._fullLayout.yaxis.type"
    assert page.js(kind) == "linear"
    box.send_keys(Keys.SPACE)
    assert page.js(kind) == "log"
    box.send_keys(Keys.SPACE)
    assert page.js(kind) == "linear"


def test_trades_are_filtered(page: Page) -> None:
    everything = page.column(0)
    assert len(set(everything)) == 3
    box = page.driver.find_element(By.ID, "filter")
    box.send_keys("B LONG")
    assert set(page.column(0)) == {SYMBOLS[1]}
    count = page.driver.find_element(By.ID, "filter-count").text
    assert count == f"{everything.count(SYMBOLS[1])} of {len(everything)} shown"
    box.send_keys(" nothing of the kind")
    assert page.column(0) == []
    box.clear()
    page.js("arguments[0].dispatchEvent(new Event('input'))", box)
    assert page.column(0) == everything


def test_trades_are_sorted_from_the_keyboard(page: Page) -> None:
    def profits() -> list[float]:
        return [float(text.replace(",", "")) for text in page.column(8)]

    before = profits()
    head = page.driver.find_elements(By.CSS_SELECTOR, "#trades-table th")[8]
    button = head.find_element(By.TAG_NAME, "button")
    button.send_keys(Keys.ENTER)
    assert profits() == sorted(before) and head.get_attribute("aria-sort") == "ascending"
    button.send_keys(Keys.SPACE)
    assert profits() == sorted(before, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    symbol = page.driver.find_elements(By.CSS_SELECTOR, "#trades-table th button")[0]
    symbol.send_keys(Keys.ENTER)
    assert page.column(0) == sorted(page.column(0))
    assert head.get_attribute("aria-sort") is None


def test_the_keyboard_gets_everywhere(page: Page) -> None:
    page.js("document.querySelector('.skip').focus()")  # wherever a test before left the focus
    reached, visible = set(), []
    for _ in range(300):
        active = page.driver.switch_to.active_element
        if active.tag_name == "body":  # once round
            break
        reached.add(active.get_attribute("id") or active.get_attribute("class") or active.tag_name)
        visible.append(page.js("return getComputedStyle(document.activeElement).outlineStyle"))
        active.send_keys(Keys.TAB)
    assert {"skip", "first", "second", "statistic", "filter", "scroll tall", "button"} <= reached
    assert "none" not in visible


def rgb(color: str) -> str:
    return f"rgb({', '.join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))})"


INK = "return getComputedStyle(document.querySelector('[data-figure=equity] .ytitle')).fill"


def test_the_dark_is_followed_at_once(page: Page) -> None:
    assert page.js(INK) == rgb(LIGHT["ink"])
    page.emulate(dark=True)
    page.until(f"{INK} === arguments[0]", rgb(DARK["ink"]))
    ground = "return getComputedStyle(document.body).backgroundColor"
    assert page.js(ground) == rgb(DARK["paper"])
    page.emulate()
    page.until(f"{INK} === arguments[0]", rgb(LIGHT["ink"]))
    assert page.js(ground) == rgb(LIGHT["paper"])


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_page_does_not_scroll_sideways(page: Page, width: int) -> None:
    page.emulate(width=width)
    page.until("return innerWidth === arguments[0]", width)
    page.until(
        "return [...document.querySelectorAll('figure > .plot svg.main-svg')]"
        ".every(s => s.getBoundingClientRect().right <= arguments[0])",
        width,
    )
    assert page.js("return document.documentElement.scrollWidth") <= width
    box = page.js(
        "const t = document.querySelector('#trades-table');"
        "return [t.parentElement.clientWidth, t.scrollWidth]"
    )
    assert box[0] < width
    assert width > 700 or box[1] > box[0]  # the table scrolls in its own box


def test_a_long_name_stays_in_its_tile(page: Page) -> None:
    assert page.js(
        "const name = document.querySelector('.tiles dt'), before = name.textContent;"
        "name.textContent = 'my_strategy_'.repeat(4);"
        "const fits = name.scrollWidth <= name.clientWidth;"
        "name.textContent = before; return fits"
    )


def test_print_is_light_and_fits_the_paper(page: Page) -> None:
    page.emulate(dark=True)
    page.until(f"{INK} === arguments[0]", rgb(DARK["ink"]))
    page.emulate(width=680, media="print", dark=True)
    page.until(f"{INK} === arguments[0]", rgb(LIGHT["ink"]))
    page.until(
        "return [...document.querySelectorAll('.plot svg.main-svg')]"
        ".every(s => s.getBoundingClientRect().width <= 670)"
    )
    gone = page.js(
        "return ['nav', '.controls', '.modebar'].map("
        "s => getComputedStyle(document.querySelector(s)).display)"
    )
    assert gone == ["none"] * 3
    height = "return getComputedStyle(document.querySelector('.scroll.tall')).maxHeight"
    assert page.js(height) == "none"
    page.emulate()
    page.until("return document.querySelector('[data-figure=equity]').clientWidth > 900")
    page.until(f"{INK} === arguments[0]", rgb(LIGHT["ink"]))


def test_all_of_it_caused_no_request_and_no_complaint(page: Page) -> None:
    def asked(driver: object) -> bool:
        page.collect()
        return bool(page.requests)

    # Where this is the first test of its process, the page may just have been asked for.
    WebDriverWait(page.driver, 20).until(asked)
    assert set(page.requests) == {page.path.as_uri()}
    assert page.complaints == []
