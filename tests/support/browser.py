"""A real browser for tests: Debian's chromium through selenium, without a window and without a network."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import pytest

WAIT_S = 30.0
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--window-size=1400,1000",
)
"""Without a window, and without names of hosts: a page that called the network would fail."""


@contextmanager
def chromium() -> Iterator[tuple[Any, str]]:
    """A driver; None with the reason where there is no browser or no selenium. Nothing of the browser stays behind."""
    try:
        from selenium import webdriver
    except ImportError:
        yield None, "selenium is not installed (pip install selenium)"
        return
    binary = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
    chromedriver = shutil.which("chromedriver")
    if binary is None or chromedriver is None:
        yield None, "no chromium with chromedriver here (Debian: apt-get install chromium chromium-driver)"
        return
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # the browser's socket lies in its folder, and a socket's address has at most 108 characters
    with TemporaryDirectory(ignore_cleanup_errors=True, dir="/tmp") as folder:
        service = webdriver.ChromeService(chromedriver, env=os.environ | {"TMPDIR": folder})
        driver = webdriver.Chrome(options=options, service=service)
        try:
            yield driver, ""
        finally:
            driver.quit()


@contextmanager
def browser() -> Iterator[Any]:
    """A driver for tests, which are skipped, with the reason, where there is none."""
    with chromium() as (driver, why):
        if driver is None:
            pytest.skip(why)
        yield driver


def open_page(driver: Any, address: str) -> None:
    """Load a page of a gallery and wait until it says that it is ready."""
    driver.get("about:blank")  # a new hash alone would not load it anew
    driver.get(address)
    wait_for(lambda: driver.execute_script("return document.body && document.body.dataset.ready") == "1", driver)


def wait_for(condition: Callable[[], Any], driver: Any) -> None:
    """Wait until a condition holds; fails with what the page says of its problem."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    said = driver.execute_script("return document.getElementById('problem')?.textContent")
    raise AssertionError(f"the page did not get there in {WAIT_S:.0f} s; it says {said!r}")


def messages(driver: Any) -> list[str]:
    """What the page wrote to the console since this was last asked."""
    return [entry["message"] for entry in driver.get_log("browser")]


def requests(driver: Any) -> list[str]:
    """Addresses that pages asked for since this was last called."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
