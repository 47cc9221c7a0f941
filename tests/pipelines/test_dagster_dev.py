"""``make ui``: the web UI with its daemon, the schedule, and the pages in a real browser."""

import os
import shutil
import signal
import socket
import urllib.request
from urllib.error import URLError

import dagster as dg
import psutil
import pytest

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1500,1100",
)  # fmt: skip


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (URLError, OSError):
        return False


@pytest.fixture(scope="module")
def served(finished, tmp_path_factory):
    """The finished deployment under ``dagster dev``, its schedule ticking every minute; and its address."""
    root = tmp_path_factory.mktemp("served") / "nightfold"
    shutil.copytree(finished.root, root)
    made = type(finished)(root, finished.first)
    made.settings(schedule={"cron": "* * * * *", "timezone": "UTC"})
    port = _free_port()
    log = (root / "dev.log").open("w")
    process = made.start("dagster", "dev", "-h", "127.0.0.1", "-p", str(port), out=log)
    try:
        made.wait_for(lambda: _answers(f"http://127.0.0.1:{port}/server_info"))
        yield made, f"http://127.0.0.1:{port}"
    finally:
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        for one in psutil.wait_procs(started, timeout=20)[1]:
            one.kill()
        log.close()


def test_check_6_the_schedule_ticks_and_its_run_succeeds(served):
    deployment, _ = served

    def ended():
        runs = [run for run in deployment.runs() if run.job_name == "reoptimize_nightly"]
        return [run for run in runs if run.is_finished]

    run = deployment.wait_for(ended, seconds=150)[-1]
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert run.tags["dagster/schedule_name"] == "nightly"
    assert len(deployment.materialised(run)) == 11


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (os.path.exists(CHROMIUM) and os.path.exists(DRIVER)):
        pytest.skip(f"needs {CHROMIUM} and {DRIVER} (Debian: apt install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason='needs selenium: pip install -e ".[dev]"')
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Page:
    """One page of the web UI."""

    def __init__(self, driver, deployment, address):
        driver.get(address)
        self.driver, self.wait_for = driver, deployment.wait_for

    def text(self):
        return self.driver.find_element("tag name", "body").text

    def shows(self, *texts):
        self.wait_for(lambda: all(text in self.text() for text in texts), seconds=40)

    def is_sound(self):
        severe = [line["message"] for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]
        assert severe == []
        for sign in ("PythonError", "Unexpected error", "Failed to load", "Traceback", "went wrong"):
            assert sign not in self.text()


def test_check_8_the_asset_graph_shows_the_six_assets(served, browser):
    page = Page(browser, served[0], served[1] + "/asset-groups")
    page.shows("prices", "features", "forecasts", "optimizations", "backtests", "leaderboard")
    page.is_sound()


def test_check_8_an_asset_page_lists_its_partitions_and_shows_the_equity_picture(served, browser):
    page = Page(browser, served[0], served[1] + "/assets/backtests?partition=AAA&view=partitions")
    page.shows("AAA", "BTC-USD", "Materialized (2)", "Failed (0)", "[Show Markdown]")
    browser.find_element("xpath", "//*[text()='[Show Markdown]']").click()

    def drawn():
        found = browser.find_elements("css selector", "img[src^='data:image/svg']")
        return [browser.execute_script("return arguments[0].naturalWidth", image) for image in found]

    page.wait_for(lambda: len(drawn()) == 2, seconds=40)
    assert min(drawn()) > 100
    page.is_sound()


def test_check_8_the_leaderboard_is_a_table(served, browser):
    page = Page(browser, served[0], served[1] + "/assets/leaderboard")
    page.shows("levels_entry_exit", "trend", "matched hold", "report")
    cells = [cell.text for cell in browser.find_elements("css selector", "table table td, table table th")]
    assert {"symbol", "tuned", "AAA", "BTC-USD"} <= set(cells)
    page.is_sound()


def test_check_8_a_check_page_shows_its_partition(served, browser):
    page = Page(browser, served[0], served[1] + "/assets/forecasts?view=checks")
    page.shows("forecasts_are_ordered", "forecasts_against_baselines", "Partition")
    page.is_sound()
