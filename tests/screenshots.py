"""The README's pictures: the demo is started, its first steps are played in a browser, and what people see is kept.

python -m tests.screenshots

It takes two minutes and Chromium or Chrome, and writes PNG files to .github.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.browser.conftest import BROWSERS, FLAGS
from tests.browser.test_story import types

FOLDER = Path(__file__).parent.parent / ".github"
PORT = 8940
COLOURS = 128
MARGIN = 3
ROOM = 10
"""Below the last message."""
LONG_MS = 120_000
BREAKFAST, PLANNER = "breakfast_policy_exp", "planner_policy_exp"
DESK, PHONE = 1120, 390
TALL = 1600
"""Any card fits in without scrolling."""


@contextmanager
def demo() -> Iterator[str]:
    """The demo, started afresh; the address of its workspace."""
    with tempfile.TemporaryDirectory() as folder:
        words = ("-m", "bot", "demo", "--no-browser", "--data-dir", f"{folder}/demo", "--port", str(PORT))
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            if not any(line == "ready\n" for line in process.stdout):
                raise SystemExit("the demo did not start; the reason stands above")
            yield f"http://127.0.0.1:{PORT}"
        finally:
            process.terminate()
            process.communicate()


class Desks:
    """Pages of people in the workspace; for all of them it is ten in the morning, whenever the pictures are taken."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser, self._url = browser, url
        ahead = (10 - datetime.now(UTC).hour + 12) % 24 - 12
        self._zone = f"Etc/GMT{-ahead:+d}"  # east of Greenwich the sign is a minus
        self._passed = timedelta()

    def passes(self, **time: float) -> None:
        """So much time was simulated; browsers opened from now on know it."""
        self._passed += timedelta(**time)

    def opened(self, handle: str, channel: str, width: int = DESK) -> Page:
        """The page as this person sees it."""
        context = self._browser.new_context(
            viewport={"width": width, "height": TALL},
            device_scale_factor=2,
            timezone_id=self._zone,
            color_scheme="light",
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.set_default_timeout(LONG_MS)
        if self._passed:
            page.clock.set_fixed_time(datetime.now(UTC) + self._passed)
        page.goto(f"{self._url}/?as={handle}&channel={channel}")
        page.get_by_test_id("composer").wait_for()
        return page


def card(page: Page, text: str) -> Locator:
    """The newest card with this text, once it is there."""
    found = page.locator(".card").filter(has_text=text).last
    found.wait_for()
    return found


def kept(name: str, png: bytes) -> None:
    """The picture in few colours, which suffice for text on white and make it a quarter as large."""
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    path = FOLDER / f"{name}.png"
    picture.save(path, optimize=True)
    print(f"{path.name:24} {picture.width} x {picture.height}, {path.stat().st_size / 1000:.0f} kB", flush=True)


def fitted(page: Page, part: Locator) -> bytes:
    """The whole page, just so high that the message with this part is seen and nothing else."""
    page.mouse.move(0, 0)  # else what is under it is highlighted
    seen = page.locator(".conversation .scroll").bounding_box()
    box = page.get_by_test_id("message").filter(has=part).bounding_box()
    assert seen is not None
    assert box is not None
    height = TALL - seen["height"] + box["height"] + ROOM
    page.set_viewport_size({"width": page.viewport_size["width"], "height": round(height)})  # type: ignore[index]
    part.scroll_into_view_if_needed()
    return page.screenshot()


def cut(part: Locator, margin: int = MARGIN) -> bytes:
    """A part of the page, with its border."""
    part.scroll_into_view_if_needed()
    part.page.mouse.move(0, 0)
    box = part.bounding_box()
    assert box is not None
    size = {"width": box["width"] + 2 * margin, "height": box["height"] + 2 * margin}
    return part.page.screenshot(clip={"x": box["x"] - margin, "y": box["y"] - margin, **size})  # type: ignore[typeddict-item]


def play(desks: Desks) -> None:
    """The README's first steps, and what they show."""
    alice = desks.opened("alice", "ml-rollouts")
    types(alice, "/rollout qualify planner_model 3")
    card(alice, "is a candidate")
    types(alice, f"/rollout start {PLANNER} planner_policy 3")
    phone = desks.opened("bob", "ml-approvals", PHONE)
    kept("phone", fitted(phone, card(phone, "asked by")))
    phone.get_by_role("button", name="Approve", exact=True).click()
    expect(card(phone, "asked by")).to_contain_text("MLflow tags and alias", timeout=LONG_MS)

    types(alice, "/rollout simulate days 1")
    card(alice, "Increase to 50 %")
    desks.passes(days=1)
    carol = desks.opened("carol", "ml-rollouts")
    kept("recommendation", cut(card(carol, "Ask for 50 %")))

    alice = desks.opened("alice", "ml-rollouts")
    types(alice, f"/rollout chart {BREAKFAST}")
    card(alice, "candidate_v2 against control")
    kept("chart", cut(alice.locator("figure.chart").last, margin=10))

    types(alice, f"/rollout increase {BREAKFAST}")
    bob = desks.opened("bob", "ml-approvals")
    kept("screenshot", fitted(bob, card(bob, "Increase candidate_v2")))

    types(alice, f"/rollout simulate regression {BREAKFAST}")
    kept("alert", cut(card(carol, "Confirm rollback")))
    carol.get_by_role("button", name="Home", exact=True).click()
    home = carol.get_by_test_id("home-view")
    expect(home).to_contain_text("Decided lately", timeout=LONG_MS)
    kept("home", cut(home.locator(".blocks"), margin=14))


def main() -> None:
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        raise SystemExit("no Chromium or Chrome on this machine")
    with demo() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        play(Desks(browser, url))
        browser.close()


if __name__ == "__main__":
    main()
