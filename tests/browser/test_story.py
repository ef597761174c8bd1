"""A newcomer's first minute in the browser: two people on two pages, real clicks, and a phone."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.core.conftest import EXPERIMENT, MODEL

pytestmark = pytest.mark.usefixtures("bot")


def types(page: Page, text: str) -> None:
    composer = page.get_by_test_id("composer")
    composer.fill(text)
    page.keyboard.press("Escape")  # closes the list of suggestions
    composer.press("Enter")


def test_alice_asks_and_bob_approves_on_a_phone(page_as: Open, client: MlflowClient) -> None:
    alice = page_as("alice", "ml-rollouts")
    bob = page_as("bob", "ml-approvals", width=390, height=844)

    types(alice, f"/rollout status {EXPERIMENT}")
    expect(alice.get_by_test_id("message").filter(has_text=EXPERIMENT).last).to_contain_text("control")
    types(alice, f"/rollout start {EXPERIMENT} planner_policy 3")

    card = bob.get_by_test_id("message").filter(has_text="asked by").last
    expect(card).to_contain_text("0 % → 10 %")
    card.get_by_role("button", name="Approve").click()
    expect(card).to_contain_text("Approved by")
    expect(card.get_by_role("button", name="Approve")).to_have_count(0)
    expect(card).not_to_contain_text("on its way")
    expect(alice.get_by_test_id("message").filter(has_text="Checklist before production").last).to_contain_text("Wait")
    assert client.get_model_version(MODEL, "3").tags["stage"] == "experiment"
    assert bob.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the phone scrolls sideways"


def test_reject_asks_why(page_as: Open) -> None:
    alice = page_as("alice", "ml-rollouts")
    bob = page_as("bob", "ml-approvals")
    types(alice, f"/rollout start {EXPERIMENT} planner_policy 3")
    card = bob.get_by_test_id("message").filter(has_text="asked by").last
    card.get_by_role("button", name="Reject").click()
    modal = bob.get_by_test_id("modal")
    modal.get_by_role("textbox").fill("not on a Friday")
    bob.get_by_test_id("modal-submit").click()
    expect(modal).to_be_hidden()
    expect(card).to_contain_text("Rejected by")
    expect(card).to_contain_text("not on a Friday")


def test_the_form_of_start(page_as: Open) -> None:
    alice = page_as("alice", "ml-rollouts")
    types(alice, "/rollout start")
    modal = alice.get_by_test_id("modal")
    expect(modal).to_contain_text("Share of traffic")
    modal.get_by_label("Share of traffic, in %").fill("5")
    alice.get_by_test_id("modal-submit").click()
    expect(alice.get_by_test_id("message").filter(has_text="Start candidate_v3").last).to_contain_text("0 % → 5 %")
