"""Stories of a Bolt app on a real Socket Mode connection."""

import time
from collections.abc import Iterator

import pytest
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk.webhook import WebhookClient

from bot.sandbox import Sandbox
from tests.bot.sandbox.bolt_app import Recorder, connected, make_app
from tests.bot.sandbox.conftest import MakeSandbox
from tests.workspace import Person, Refusal, Workspace, text_of, waits_until

ROLLOUTS = "ml-rollouts"


@pytest.fixture
def sandbox(make_sandbox: MakeSandbox) -> Sandbox:
    """Waits half a second for acknowledgements, and repeats events quickly."""
    return make_sandbox(ack_within=0.5, retry_after=(0.0, 0.05, 0.1))


@pytest.fixture
def seen(sandbox: Sandbox) -> Iterator[Recorder]:
    """What the connected app was sent."""
    app, recorder = make_app(sandbox)
    with connected(sandbox, app):
        with Workspace(sandbox) as ws:
            ws.waits_until_connected()
        yield recorder


@pytest.fixture
def alice(ws: Workspace, seen: Recorder) -> Person:
    """A person, with the app connected."""
    return ws.person("alice")


def test_a_command_reaches_the_app_with_what_slack_sends(alice: Person, seen: Recorder, sandbox: Sandbox) -> None:
    reply = alice.types("/rollout post fraud  v2", channel=ROLLOUTS)
    assert reply.acked
    assert reply.ms < 500
    body = seen.of("/rollout")[0]
    assert body["text"] == "post fraud  v2"
    assert (body["channel_name"], body["user_name"], body["is_enterprise_install"]) == (ROLLOUTS, "alice", "false")
    assert body["response_url"].startswith(f"{sandbox.url}/response/")
    assert set(body) >= {"token", "team_id", "team_domain", "channel_id", "user_id", "api_app_id", "trigger_id"}
    message = alice.waits_for("Promote", channel=ROLLOUTS)
    assert "Model 7" in text_of(message)


def test_only_commands_that_ask_for_it_get_references(alice: Person, seen: Recorder) -> None:
    alice.types("/escaped to @bob in #random & co", channel=ROLLOUTS)
    text = seen.of("/escaped")[0]["text"]
    assert text.startswith("to <@U0")
    assert "|random> &amp; co" in text


def test_the_acknowledgement_of_a_command_is_seen_by_its_writer_alone(alice: Person, ws: Workspace) -> None:
    alice.types("/rollout whisper", channel=ROLLOUTS)
    assert alice.waits_for("only you", channel=ROLLOUTS)["ephemeral"]
    assert not any("only you" in text_of(message) for message in ws.person("bob").sees(ROLLOUTS))
    alice.types("/rollout aloud", channel=ROLLOUTS)
    assert ws.person("bob").waits_for("for all", channel=ROLLOUTS)


def test_a_late_acknowledgement_is_told_to_the_person(alice: Person) -> None:
    assert not alice.types("/rollout late", channel=ROLLOUTS).acked
    assert alice.waits_for("did not respond", channel=ROLLOUTS)["system"]


def test_an_acknowledgement_slack_would_refuse_is_told_to_the_person(alice: Person) -> None:
    alice.types("/rollout broken", channel=ROLLOUTS)
    assert alice.waits_for("invalid_command_response", channel=ROLLOUTS)["system"]


def test_a_response_url_answers_later(alice: Person) -> None:
    alice.types("/rollout respond", channel=ROLLOUTS)
    assert alice.waits_for("by response_url", channel=ROLLOUTS)["ephemeral"]


def test_without_a_connection_a_command_fails_at_once(make_sandbox: MakeSandbox) -> None:
    with Workspace(make_sandbox()) as ws:
        alice = ws.person("alice")
        started = time.monotonic()
        assert not alice.types("/rollout post", channel=ROLLOUTS).acked
        assert time.monotonic() - started < 2.5
        assert alice.waits_for('/rollout failed with the error "dispatch_failed"', channel=ROLLOUTS)["system"]


def test_a_click_reaches_the_app_with_what_slack_sends(alice: Person, seen: Recorder, ws: Workspace) -> None:
    alice.types("/rollout post", channel=ROLLOUTS)
    message = alice.waits_for("Promote", channel=ROLLOUTS)
    assert alice.chooses(message, "Stage", "Full").acked
    body = seen.of("block_actions")[0]
    assert body["container"] == {
        "type": "message",
        "message_ts": message["ts"],
        "channel_id": message["channel"],
        "is_ephemeral": False,
    }
    assert body["message"]["ts"] == message["ts"]
    assert body["message"]["bot_id"]
    assert body["channel"]["name"] == ROLLOUTS
    action = body["actions"][0]
    assert (action["action_id"], action["block_id"], action["type"]) == ("stage", "buttons", "static_select")
    assert action["selected_option"]["value"] == "full"
    assert action["action_ts"]
    assert body["state"]["values"]["buttons"]["stage"]["selected_option"]["value"] == "full"
    assert set(body) >= {"user", "api_app_id", "token", "trigger_id", "team", "enterprise", "response_url"}


def test_a_button_that_wants_confirmation_does_nothing_without(alice: Person, seen: Recorder) -> None:
    alice.types("/rollout post", channel=ROLLOUTS)
    message = alice.waits_for("Promote", channel=ROLLOUTS)
    with pytest.raises(Refusal, match="confirmed"):
        alice.clicks(message, "Promote")
    assert not seen.of("block_actions")
    assert alice.clicks(message, "Promote", confirm=True).acked


def test_a_click_in_an_ephemeral_message_can_replace_and_delete_it(alice: Person, seen: Recorder) -> None:
    alice.types("/rollout whisper", channel=ROLLOUTS)
    message = alice.waits_for("only you", channel=ROLLOUTS)
    alice.clicks(message, "promote", confirm=True)
    body = seen.of("block_actions")[0]
    assert "message" not in body
    assert body["container"]["is_ephemeral"]
    webhook = WebhookClient(body["response_url"])
    assert webhook.send(text="replaced", replace_original=True).body == "ok"
    changed = alice.waits_for("replaced", channel=ROLLOUTS)
    assert (changed["ts"], changed["ephemeral"], "blocks" in changed) == (message["ts"], True, False)
    assert webhook.send(delete_original=True).status_code == 200
    assert not any(each["ts"] == message["ts"] for each in alice.sees(ROLLOUTS))


def test_a_modal_is_filled_in_and_closed(alice: Person, seen: Recorder) -> None:
    view = ask(alice)
    assert alice.submits(view, {"Reason": "because"}).response == "closed"
    assert alice.modals() == []
    body = seen.of("view_submission")[0]
    assert body["view"]["state"]["values"]["reason"]["text"] == {"type": "plain_text_input", "value": "because"}
    assert body["view"]["private_metadata"] == "model-7"
    assert (body["view"]["root_view_id"], body["view"]["previous_view_id"]) == (view["id"], None)
    assert body["view"]["hash"]


@pytest.mark.parametrize(("value", "words"), [("", "required"), ("xy", "at least 3")])
def test_the_client_checks_inputs_before_the_app_does(alice: Person, seen: Recorder, value: str, words: str) -> None:
    outcome = alice.submits(ask(alice), {"Reason": value})
    assert outcome.response == "errors"
    assert words in outcome.errors["reason"]
    assert not seen.of("view_submission")


def test_the_app_can_answer_a_submission_in_every_way(alice: Person) -> None:
    view = ask(alice)
    assert alice.submits(view, {"Reason": "because", "Then": "errors"}).errors == {"reason": "Not good enough"}
    assert alice.submits(view, {"Reason": "because", "Then": "update"}).response == "updated"
    updated = alice.modal()
    assert (updated["id"], updated["title"]["text"]) == (view["id"], "Changed")
    assert updated["hash"] != view["hash"]
    assert updated["state"]["values"]["reason"]["text"]["value"] == "because"
    assert alice.submits(view, {"Then": "push"}).response == "pushed"
    pushed = alice.modal()
    assert (pushed["previous_view_id"], pushed["root_view_id"]) == (view["id"], view["id"])
    assert alice.submits(pushed, {"Reason": "because"}).response == "closed"
    assert [each["id"] for each in alice.modals()] == [view["id"]]
    assert alice.submits(view, {"Then": "clear"}).response == "closed"
    assert alice.modals() == []


def test_an_answer_to_a_submission_that_slack_would_refuse_keeps_the_modal(alice: Person) -> None:
    view = ask(alice)
    with pytest.raises(Refusal, match="trouble connecting"):
        alice.submits(view, {"Reason": "because", "Then": "bad"})
    assert alice.modals()


def test_a_pushed_modal_is_the_third_at_most(alice: Person) -> None:
    view = ask(alice)
    for _ in range(2):
        assert alice.submits(alice.modal(), {"Reason": "because", "Then": "push"}).response == "pushed"
    with pytest.raises(Refusal, match="push_limit_reached"):
        alice.submits(alice.modal(), {"Reason": "because", "Then": "push"})
    assert len(alice.modals()) == 3
    with pytest.raises(Refusal, match="not_on_top"):
        alice.submits(view, {"Reason": "because"})


def test_closing_a_modal_tells_the_app_that_asked_for_it(alice: Person, seen: Recorder) -> None:
    alice.closes(ask(alice))
    assert seen.of("view_closed")[0]["is_cleared"] is False
    assert alice.modals() == []


def test_the_home_tab_is_published_when_it_is_opened(alice: Person, seen: Recorder) -> None:
    view = alice.home(text="Waiting for you")
    assert seen.of("app_home_opened")[0]["event"]["tab"] == "home"
    assert alice.clicks(view, "promote", confirm=True).acked
    body = seen.of("block_actions")[0]
    assert body["container"] == {"type": "view", "view_id": view["id"]}
    assert body["view"]["type"] == "home"
    assert "response_url" not in body


def test_mentions_and_direct_messages_are_events_if_subscribed(alice: Person, seen: Recorder, ws: Workspace) -> None:
    alice.types("hello @rollout-bot", channel=ROLLOUTS)
    alice.types("just talking", channel=ROLLOUTS)
    alice.types("hi", channel="app")
    waits_until(lambda: len(seen.of("event_callback")) == 2, 20, "two events")
    assert [body["event"]["type"] for body in seen.of("event_callback")] == ["app_mention", "message"]
    assert seen.of("message")[0]["event"]["channel_type"] == "im"


def test_a_duplicate_delivery_carries_the_same_payload(alice: Person, seen: Recorder, ws: Workspace) -> None:
    ws.socket("duplicate_next")
    alice.types("/rollout post", channel=ROLLOUTS)
    waits_until(lambda: len(seen.of("/rollout")) == 2, 20, "a second delivery")
    assert len({body["trigger_id"] for body in seen.of("/rollout")}) == 1


def test_the_app_connects_anew_when_it_is_asked_to(sandbox: Sandbox, ws: Workspace) -> None:
    app, seen = make_app(sandbox)
    with connected(sandbox, app) as handler:
        assert isinstance(handler, SocketModeHandler)
        ws.waits_until_connected()
        before = handler.client.session_id()
        ws.socket("refresh")
        waits_until(lambda: handler.client.session_id() != before, 30, "another session")
        alice = ws.person("alice")
        waits_until(lambda: alice.types("/rollout post", channel=ROLLOUTS).acked, 30, "the new session to listen")
        assert seen.of("/rollout")


def ask(person: Person) -> dict[str, object]:
    """Post, press Ask, and be asked."""
    person.types("/rollout post", channel=ROLLOUTS)
    person.clicks(person.waits_for("Ask", channel=ROLLOUTS), "Ask")
    return person.modal()
