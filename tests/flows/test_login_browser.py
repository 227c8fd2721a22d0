"""A login as a person does it: in a real browser, from the vendor's page back to ours.

Debian's Chromium is used; where there is none and it cannot be installed, these tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from login_gateway import LoginGateway
from playwright.sync_api import Browser, Page, sync_playwright

from cliproxy.simulator import Simulator

ADA = "ada@example.com"
INSTALL_SECONDS = 300
MISSING = "Chromium is not here and cannot be installed: logins are not tried in a browser"


def _chromium() -> str | None:
    """Where the browser is. As root on Debian it is installed if it is missing."""
    if (found := shutil.which("chromium")) or not (shutil.which("apt-get") and os.geteuid() == 0):
        return found
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"],
    ):
        try:
            subprocess.run(command, env=environment, capture_output=True, timeout=INSTALL_SECONDS, check=True)
        except (subprocess.SubprocessError, OSError):
            return None
    return shutil.which("chromium")


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    path = _chromium()
    if path is None:
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\n{MISSING}")
        pytest.skip(MISSING)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """The browser of somebody who likes it dark."""
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.set_default_timeout(15_000)
    yield page
    context.close()


@pytest.fixture
def gateway(tmp_path: Path, vendors: Simulator) -> Iterator[LoginGateway]:
    started = LoginGateway(tmp_path, vendors)
    yield started
    started.stop()


def test_somebody_says_yes(page: Page, gateway: LoginGateway, vendors: Simulator) -> None:
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(f"{said.location['url']}: {said.text}"))
    url, state = gateway.begin("anthropic")
    page.goto(url)
    page.fill("#email", ADA)

    page.click("#approve")

    page.wait_for_url("http://localhost:*/callback?*")
    assert page.locator("h1").inner_text() == f"Logged in: {ADA}"
    assert "You can close this page" in page.locator("main").inner_text()
    assert page.title().startswith(f"Logged in: {ADA}")
    assert [text for text in complaints if not text.startswith(vendors.url)] == []
    assert gateway.status(state) == {"status": "ok"}
    (listed,) = gateway.get("/auth-files").json["files"]  # type: ignore[index]
    assert listed["email"] == ADA


def test_somebody_says_no(page: Page, gateway: LoginGateway) -> None:
    url, state = gateway.begin("anthropic")
    page.goto(url)

    page.click("#deny")

    page.wait_for_url("http://localhost:*/callback?*")
    assert page.locator("h1").inner_text() == "The login to Claude has failed"
    assert page.locator(".vendor").inner_text() == "access_denied"
    assert gateway.status(state)["error"] == "Bad request"  # type: ignore[index]
    assert gateway.files() == []


def test_our_page_follows_the_persons_colours_and_loads_nothing(page: Page, gateway: LoginGateway) -> None:
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.resource_type))
    gateway.begin("anthropic")

    page.goto(f"http://localhost:{gateway.port}/callback")

    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") != "rgb(0, 0, 0)"
    assert page.evaluate("getComputedStyle(document.body).maxWidth") == "576px"
    assert loaded == ["document"]
