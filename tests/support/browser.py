"""A real browser for tests: Debian's chromium through selenium, without a window and without a network."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

WAIT_S = 30.0


@contextmanager
def browser(width: int = 1400, height: int = 1000) -> Iterator[Any]:
    """A driver; skips the test, with the reason, where there is no browser or no selenium."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (pip install selenium)")
    binary = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
    chromedriver = shutil.which("chromedriver")
    if binary is None or chromedriver is None:
        pytest.skip("no chromium with chromedriver here (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
        f"--window-size={width},{height}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    try:
        yield driver
    finally:
        driver.quit()


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
