"""The page in Chromium, at the width of a desk and of a phone, light and dark."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from browser import browsing, find_browser
from report import outcomes
from report.pages import filled
from tcn_export.bundle import load_bundle
from tcn_export.parity.rows import ParityReport
from tcn_export.report.html import html_bytes
from tcn_export.verification import verify

pytestmark = pytest.mark.slow
LONG = "a_name_without_any_place_to_break_it_that_goes_on_and_on_and_on_and_on_to_the_end"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with browsing(program, tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture(scope="module")
def pages(tiny_exports, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    bundle = load_bundle(tiny_exports["int8"])
    names = tuple(f"{LONG}_{i}" for i in range(24))
    rows = [*outcomes.hostile().report.rows, *outcomes.ROWS]
    wide = filled(bundle, names)
    content = {
        "plain": html_bytes(bundle, verify(bundle)),
        "filled": html_bytes(filled(bundle), ParityReport(tuple(rows))),
        "wide": html_bytes(wide, ParityReport((outcomes.PASSED,), waived=(LONG,))),
    }
    for name, raw in content.items():
        (folder / f"{name}.html").write_bytes(raw)
    return folder


TOO_SMALL = """
[...document.querySelectorAll("main *")].filter(
  e => e.children.length == 0 && e.textContent.trim() && e.checkVisibility()
    && parseFloat(getComputedStyle(e).fontSize) < 11).length
"""
CONTRAST = """
(() => {
  const brush = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = color => {
    brush.clearRect(0, 0, 1, 1); brush.fillStyle = color; brush.fillRect(0, 0, 1, 1);
    return [...brush.getImageData(0, 0, 1, 1).data]; };
  const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = color => {
    const [r, g, b] = rgba(color).map(v => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => {
    for (; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if (rgba(color)[3] > 0) return color; }
    return "white"; };
  let least = 99;
  for (const e of document.querySelectorAll("main *")) {
    const told = [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim());
    if (!told || !e.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
    least = Math.min(least, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)); }
  return least;
})()
"""


@pytest.mark.parametrize("name", ["plain", "filled", "wide"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("is_dark", [False, True])
def test_page_fits_is_readable_and_asks_for_nothing(browser, pages, name, width, is_dark):
    path = pages / f"{name}.html"
    browser.open(path, width, 844, is_dark)
    assert browser.ask("innerWidth") == width
    assert browser.ask("document.documentElement.scrollWidth") <= width
    browser.ask("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("document.documentElement.scrollHeight") < 15_000
    assert browser.ask(TOO_SMALL) == 0
    assert browser.ask(CONTRAST) >= 4.5  # WCAG 2, AA
    is_light = browser.ask("getComputedStyle(document.body).backgroundColor") > "rgb(2"
    assert is_light != is_dark
    asked = [
        p["request"]["url"] for n, p in browser.events if n == "Network.requestWillBeSent"
    ]
    assert asked == [path.as_uri()]
    said = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
    assert [entry for entry in browser.events if entry[0] in said] == []
    folder = os.environ.get("TCN_EXPORT_PICTURES")  # to look at them
    if folder:
        scheme = "dark" if is_dark else "light"
        Path(folder, f"{name}-{width}-{scheme}.png").write_bytes(browser.picture())
