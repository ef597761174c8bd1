"""A real browser on the workspace's page, where one is installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from bot.sandbox import Sandbox
from tests.bot.conftest import bot, configured, sandbox, wishes  # noqa: F401 - fixtures
from tests.core.conftest import client, desk, mlflow_template, mlflow_uri, registry  # noqa: F401 - fixtures

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium or Chrome as the machine has it; none is downloaded."""
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium or Chrome on this machine")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def page_as(browser: Browser, sandbox: Sandbox) -> Iterator[Open]:  # noqa: F811
    """Opens the page as somebody in a channel; fails the test on any error in the browser's console."""
    errors: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(message.text)

    contexts = []

    def opened(handle: str, channel: str, *, width: int = 1280, height: int = 900) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{sandbox.url}/?as={handle}&channel={channel}")
        page.get_by_test_id("composer").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []
