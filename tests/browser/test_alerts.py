"""Alerts, the daily card, Home and charts in a real browser, as people see and press them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import Engine

from bot import schedule
from bot.channels import Channels
from bot.demo import clock
from bot.desk import Desk
from bot.people import People
from core import registry
from core.settings import Settings
from tests.bot.conftest import web  # noqa: F401 - a fixture
from tests.browser.conftest import Open
from tests.browser.test_story import types
from tests.core import steps
from tests.core.conftest import EXPERIMENT

pytestmark = pytest.mark.usefixtures("bot")
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def look(desk: Engine, configured: Settings, web: object, tmp_path: Path) -> Callable[[], None]:  # noqa: F811
    """Runs the jobs that notice what happened."""
    people, channels = People(web, configured), Channels(web)  # type: ignore[arg-type]
    table = Desk(desk, registry.at(configured.tracking_uri), people, channels, configured)
    return lambda: schedule.run_now(table, "measure", "watch", "recommend")


@pytest.fixture
def alarmed(desk: Engine, look: Callable[[], None]) -> Engine:
    """A candidate that did well for a day and then great harm."""
    steps.change(desk, "start")
    steps.serve_all(desk, 4000)
    clock.advance(desk, days=1)
    steps.goes_wrong(desk)
    look()
    return desk


def message(page: Page, text: str) -> Locator:
    """The newest message with this text."""
    return page.get_by_test_id("message").filter(has_text=text).last


def fits(page: Page) -> bool:
    """Whether nothing scrolls sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_a_rollback_confirmed_on_a_phone_takes_slacks_own_dialog(alarmed: Engine, page_as: Open) -> None:
    carol = page_as("carol", "ml-rollouts", **PHONE)
    alert = message(carol, "· alert 1 ·")
    expect(alert).to_contain_text("Roll back candidate_v3?")
    expect(alert).to_contain_text("candidate_v3 10 % → 0 %")
    alert.get_by_role("button", name="Confirm rollback").click()
    dialog = carol.get_by_role("dialog")
    expect(dialog).to_contain_text("control 90 % → 100 %, candidate_v3 10 % → 0 %")
    dialog.get_by_role("button", name="Cancel").click()
    expect(alert.get_by_role("button", name="Confirm rollback")).to_be_visible()
    assert steps.shares(alarmed)["candidate_v3"] > 0
    alert.get_by_role("button", name="Confirm rollback").click()
    carol.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(alert).to_contain_text("Rolled back")
    expect(alert.get_by_role("button", name="Confirm rollback")).to_have_count(0)
    assert fits(carol)
    assert steps.shares(alarmed) == steps.shares_of(control="1", candidate_v3="0")


def test_snooze_from_the_list(alarmed: Engine, page_as: Open) -> None:
    carol = page_as("carol", "ml-rollouts")
    alert = message(carol, "Roll back candidate_v3?")
    alert.get_by_role("combobox").select_option("For 4 hours")
    expect(alert).to_contain_text("Snoozed until")
    expect(message(carol, "rests until")).to_be_visible()


def test_the_daily_card_and_its_why(alarmed: Engine, page_as: Open) -> None:
    alice = page_as("alice", "ml-rollouts", **PHONE)
    card = message(alice, "Checklist before production")
    expect(card).to_contain_text("Roll back")
    expect(card).to_contain_text("Acceptance")
    expect(card).to_contain_text("worse")
    card.get_by_role("button", name="Why", exact=True).click()
    expect(message(alice, "normal deviate")).to_be_visible()
    assert fits(alice)


def test_home_shows_the_alert_and_works(alarmed: Engine, page_as: Open) -> None:
    carol = page_as("carol", "ml-rollouts")
    carol.get_by_role("button", name="Home", exact=True).click()
    home = carol.get_by_test_id("home-view")
    expect(home).to_contain_text("Open alerts")
    home.get_by_role("button", name="Dismiss…").click()
    carol.get_by_test_id("modal").get_by_role("textbox").fill("a replay of old traffic")
    carol.get_by_test_id("modal-submit").click()
    expect(home).to_contain_text("Alert 1 is dismissed.")
    expect(home).to_contain_text("No alert is open.")


def test_a_chart_is_drawn(alarmed: Engine, page_as: Open) -> None:
    alice = page_as("alice", "ml-rollouts", **PHONE)
    types(alice, f"/rollout chart {EXPERIMENT}")
    expect(alice.locator(".chart-picture svg")).to_have_count(2)
    expect(alice.locator(".chart-picture svg").last).to_be_visible()
    expect(message(alice, "Acceptance")).to_be_visible()
    assert fits(alice)
