"""Make docs/report.png: the first screen of the report that the last run wrote.

Run by ``make picture``. Drives a headless chromium through selenium; both it and chromedriver
must be on the PATH, nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "data" / "reports" / "index.html"
PICTURE = ROOT / "docs" / "report.png"
WIDTH, HEIGHT = 1280, 1060  # CSS pixels, one device pixel each
LARGEST_BYTES = 400_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def program(*names: str) -> str:
    """Return the path of the first program that is installed, or stop with what is missing."""
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    sys.exit(f"found none of {', '.join(names)} on the PATH; install one of them, then: make picture")


def screenshot(page: Path) -> bytes:
    """Return a page's first screen as PNG bytes.

    Parameters
    ----------
    page : Path
        An HTML file.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = program(*BROWSERS)
    with tempfile.TemporaryDirectory() as profile:
        for switch in (
            "--headless=new",
            f"--user-data-dir={profile}",
            "--force-device-scale-factor=1",
            "--force-color-profile=srgb",
            "--hide-scrollbars",
            "--disable-gpu",
        ):
            options.add_argument(switch)
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            options.add_argument("--no-sandbox")  # chromium refuses its sandbox to root
        driver = webdriver.Chrome(options=options, service=Service(program("chromedriver")))
        try:
            size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            light = [{"name": "prefers-color-scheme", "value": "light"}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": light})
            driver.get(page.as_uri())
            WebDriverWait(driver, 30).until(
                lambda d: d.execute_script("return document.readyState === 'complete'")
            )
            return bytes(driver.get_screenshot_as_png())
        finally:
            driver.quit()


def main() -> int:
    """Write the picture; return 0, or 1 where there is no report or the picture is too large."""
    if not PAGE.is_file():
        print(f"found no {PAGE.relative_to(ROOT)}; run first: make backtest", file=sys.stderr)
        return 1
    png = screenshot(PAGE)
    if len(png) > LARGEST_BYTES:
        print(f"the picture has {len(png)} bytes; expected at most {LARGEST_BYTES}", file=sys.stderr)
        return 1
    PICTURE.write_bytes(png)
    print(f"{PICTURE.relative_to(ROOT)}: {WIDTH} x {HEIGHT}, {len(png)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
