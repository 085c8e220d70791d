"""Look over the built site: what a strict build does not see.

    zensical build --clean --strict && python tests/docs/check_site.py site

Links, pictures, scripts, styles and fonts lead to files of the site; nothing is asked of another
host; every page has one heading of the first level; no formula is left as TeX outside of its place.

With `--browser /usr/bin/chromium` (and `pip install playwright`) each page is opened from the file
system, on a screen and on a telephone: nothing is wider than the window, every picture is shown,
every formula is drawn without an error, nothing is fetched from elsewhere, and the search finds
something. `--shots FOLDER` keeps pictures of the pages.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

WIDTHS = {1280: 800, 390: 844}
_FETCHED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}
_RAW_FORMULA = re.compile(r"\\[\[(]|\\(?:frac|mathcal|alpha|sigma|epsilon|begin)\b")
_CSS_URL = re.compile(r"url\(\s*['\"]?([^'\")]+)")
_VOID = {"img", "link", "meta", "input", "br", "hr", "source", "wbr", "col", "area", "path"}


class Page(HTMLParser):
    """What the check needs to know of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.headings = 0
        self.stray: list[str] = []
        self._open: list[tuple[str, str]] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids.add(values.get("id", ""))
        self.headings += tag == "h1"
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if values.get(_FETCHED.get(tag, "")) and values.get("rel") not in ("next", "prev"):
            self.fetched.append(values[_FETCHED[tag]])
        if tag not in _VOID:
            self._open.append((tag, values.get("class", "")))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        kept = any(
            tag in ("code", "pre", "script", "style") or "arithmatex" in css
            for tag, css in self._open
        )
        if not kept and (found := _RAW_FORMULA.search(data)):
            self.stray.append(data[max(found.start() - 20, 0) : found.end() + 20])


def problems(site: Path) -> Iterator[str]:
    """One sentence for everything that is wrong."""
    pages = {file: Page(file) for file in sorted(site.rglob("*.html")) if file.name != "404.html"}
    for file, page in pages.items():
        name = file.relative_to(site)
        if page.headings != 1:
            yield f"{name}: {page.headings} headings of the first level"
        for text in page.stray:
            yield f"{name}: a formula is left as it was written: {text!r}"
        for target in page.fetched:
            if urlsplit(target).netloc:
                yield f"{name}: fetches {target}"
        for target in {*page.fetched, *page.links}:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            there = there / "index.html" if there.is_dir() else there
            if not there.exists():
                yield f"{name}: {target} does not exist"
            elif (
                parts.fragment
                and there in pages
                and unquote(parts.fragment) not in pages[there].ids
            ):
                yield f"{name}: {target} has no such place"
    for sheet in sorted(site.rglob("*.css")):
        for target in _CSS_URL.findall(sheet.read_text(encoding="utf-8")):
            if not target.startswith(("data:", "#")) and not (sheet.parent / target).exists():
                yield f"{sheet.relative_to(site)}: {target} does not exist"


def seen(site: Path, browser: str, shots: Path | None) -> Iterator[str]:
    """What is wrong on pages as a browser shows them."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for width, height in WIDTHS.items():
            context = chromium.new_context(viewport={"width": width, "height": height})
            window = context.new_page()
            asked: list[str] = []
            window.on("request", lambda request, asked=asked: asked.append(request.url))
            for file in sorted(site.rglob("*.html")):
                if file.name == "404.html":
                    continue  # its links begin at the root of a server
                asked.clear()
                window.goto(file.as_uri())
                window.wait_for_load_state("networkidle")
                found = window.evaluate(_LOOK)
                name = f"{file.relative_to(site)} at {width}"
                yield from (f"{name}: {what}" for what in found)
                yield from (f"{name}: asks for {url}" for url in asked if url.startswith("http"))
                if shots:
                    shot = "-".join(file.relative_to(site).with_suffix("").parts)
                    window.screenshot(path=shots / f"{shot}-{width}.png", full_page=True)
            context.close()
        window = chromium.new_page()
        window.goto((site / "index.html").as_uri())
        window.wait_for_timeout(1000)
        window.keyboard.press("Control+k")
        window.wait_for_timeout(1000)
        window.keyboard.type("rectified flow", delay=30)
        window.wait_for_timeout(3000)
        if not window.get_by_text(re.compile(r"^[1-9]\d* results$")).count():
            yield "the search finds nothing"
        if shots:
            window.screenshot(path=shots / "search.png")
        chromium.close()


_LOOK = """async () => {
  const found = [];
  const formulas = [...document.querySelectorAll(".arithmatex")];
  const drawn = () => formulas.every(formula => formula.querySelector(".katex"));
  for (let i = 0; i < 40 && !drawn(); i++) await new Promise(done => setTimeout(done, 50));
  if (!drawn()) found.push("a formula is not drawn");
  for (const e of document.querySelectorAll(".katex-error")) found.push("formula: " + e.title);
  const root = document.documentElement;
  if (root.scrollWidth > innerWidth) found.push(`is ${root.scrollWidth} wide`);
  for (const image of document.images) {
    image.loading = "eager";
    await image.decode().catch(() => found.push(`${image.src} is not shown`));
  }
  return found;
}"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("site", type=Path)
    parser.add_argument("--browser")
    parser.add_argument("--shots", type=Path)
    options = parser.parse_args()
    folder = options.site.resolve()
    if not (folder / "index.html").exists():
        sys.exit(f"{folder} is not a built site")
    if options.shots:
        options.shots.mkdir(parents=True, exist_ok=True)
    wrong = list(problems(folder))
    if options.browser:
        wrong += seen(folder, options.browser, options.shots)
    print("\n".join(wrong) or "nothing is wrong")
    sys.exit(bool(wrong))
