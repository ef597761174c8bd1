"""The Web API by the official client: what it answers, and by which names it refuses."""

from typing import Any

import httpx
import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from bot.sandbox import Sandbox
from bot.sandbox.methods import METHODS
from tests.bot.sandbox.conftest import MakeSandbox, manifest, web_client
from tests.workspace import Workspace, text_of

Json = dict[str, Any]
MODAL: Json = {
    "type": "modal",
    "title": {"type": "plain_text", "text": "T"},
    "blocks": [{"type": "divider"}],
}
HOME: Json = {"type": "home", "blocks": [{"type": "divider"}]}


def error_of(client: WebClient, method: str, **args: Any) -> str:
    """Slack's name for why the call was refused."""
    with pytest.raises(SlackApiError) as refusal:
        client.api_call(method, json=args)
    return str(refusal.value.response["error"])


def channel_id(ws: Workspace, name: str) -> str:
    return str(ws.channel(name)["id"])


def test_a_message_is_posted_changed_and_deleted(client: WebClient, ws: Workspace) -> None:
    rollouts, alice = channel_id(ws, "ml-rollouts"), ws.person("alice")
    text = "a &lt; b <!channel> <@U1> *bold*"
    posted = client.chat_postMessage(channel=rollouts, text=text)
    assert alice.sees("ml-rollouts")[0]["text"] == text
    block = {"type": "section", "text": {"type": "mrkdwn", "text": text}}
    client.chat_update(channel=rollouts, ts=posted["ts"], text="new", blocks=[block])
    changed = alice.sees("ml-rollouts")[0]
    assert (changed["text"], changed["ts"], changed["blocks"][0]["text"]["text"]) == ("new", posted["ts"], text)
    assert changed["blocks"][0]["block_id"]
    client.chat_update(channel=rollouts, ts=posted["ts"], text="only text")
    assert "blocks" not in alice.sees("ml-rollouts")[0]
    assert (
        posted["ts"].replace(".", "")
        in client.chat_getPermalink(channel=rollouts, message_ts=posted["ts"])["permalink"]
    )
    client.chat_delete(channel=rollouts, ts=posted["ts"])
    assert alice.sees("ml-rollouts") == []
    assert error_of(client, "chat.update", channel=rollouts, ts=posted["ts"], text="x") == "message_not_found"


def test_timestamps_rise_even_when_the_clock_stands_still(client: WebClient, ws: Workspace) -> None:
    rollouts = channel_id(ws, "ml-rollouts")
    stamps = [client.chat_postMessage(channel=rollouts, text="x")["ts"] for _ in range(5)]
    assert stamps == sorted(set(stamps))


def test_forms_and_json_and_a_token_in_the_body_are_read_alike(sandbox: Sandbox, ws: Workspace) -> None:
    form = {"token": sandbox.bot_token, "channel": channel_id(ws, "ml-rollouts"), "blocks": '[{"type": "divider"}]'}
    with httpx.Client(base_url=sandbox.api_url, trust_env=False) as http:
        assert http.post("chat.postMessage", data=form).json()["ok"]
        assert http.post("chat.postMessage", json=form).json()["ok"]
        assert http.get("auth.test", params={"token": sandbox.bot_token}).json()["ok"]
        broken = http.post("auth.test", content="{", headers={"content-type": "application/json"})
        assert broken.json()["error"] == "invalid_json"
        assert http.post("chat.postMessage", data=form | {"blocks": "[{"}).json()["error"] == "invalid_blocks_format"


CHANNEL_ERRORS = [
    ("C404", "channel_not_found"),
    ("ml-rollouts", "channel_not_found"),
    ("secret", "channel_not_found"),
    ("random", "not_in_channel"),
    ("old", "is_archived"),
]


@pytest.mark.parametrize(("name", "error"), CHANNEL_ERRORS)
def test_a_channel_where_the_app_cannot_write_refuses(client: WebClient, ws: Workspace, name: str, error: str) -> None:
    place = channel_id(ws, name) if name in ("secret", "random", "old") else name
    assert error_of(client, "chat.postMessage", channel=place, text="x") == error


TEXT_ERRORS: list[tuple[Json, str]] = [
    ({}, "no_text"),
    ({"text": " "}, "no_text"),
    ({"text": "x" * 40_001}, "msg_too_long"),
    ({"text": "x", "blocks": {"type": "divider"}}, "invalid_blocks_format"),
    ({"text": "x", "blocks": [{"type": "poll"}]}, "invalid_blocks"),
    ({"text": "x", "attachments": [{}]}, "invalid_attachments"),
    ({"text": "x", "metadata": {"event_type": "x"}}, "invalid_metadata_schema"),
    ({"text": "x", "thread_ts": "1.000001"}, "cannot_reply_to_message"),
    ({"text": "x", "username": "Somebody"}, "missing_scope"),
]


@pytest.mark.parametrize(("args", "error"), TEXT_ERRORS)
def test_what_cannot_be_said_is_refused(client: WebClient, ws: Workspace, args: Json, error: str) -> None:
    rollouts = channel_id(ws, "ml-rollouts")
    assert error_of(client, "chat.postMessage", channel=rollouts, **args) == error
    assert client.chat_postMessage(channel=rollouts, text="x" * 40_000)["ok"]


def test_invalid_blocks_are_explained(client: WebClient, ws: Workspace) -> None:
    with pytest.raises(SlackApiError) as refusal:
        client.chat_postMessage(channel=channel_id(ws, "ml-rollouts"), text="x", blocks=[{"type": "section"}])
    lines = refusal.value.response["response_metadata"]["messages"]
    assert lines == ["[ERROR] must provide at least one of: text, fields [json-pointer:/blocks/0]"]
    assert refusal.value.response["errors"] == [lines[0].removeprefix("[ERROR] ")]


def test_an_ephemeral_message_is_for_one_reader_and_cannot_be_changed(client: WebClient, ws: Workspace) -> None:
    rollouts, alice, bob = channel_id(ws, "ml-rollouts"), ws.person("alice"), ws.person("bob")
    ts = client.chat_postEphemeral(channel=rollouts, user=alice.id, text="psst")["message_ts"]
    assert alice.sees("ml-rollouts")[0]["ephemeral"]
    assert bob.sees("ml-rollouts") == []
    assert client.conversations_history(channel=rollouts)["messages"] == []
    assert error_of(client, "chat.update", channel=rollouts, ts=ts, text="x") == "message_not_found"
    assert error_of(client, "chat.delete", channel=rollouts, ts=ts) == "message_not_found"
    carol = ws.person("carol").id
    assert error_of(client, "chat.postEphemeral", channel=rollouts, user=carol, text="x") == "user_not_in_channel"
    assert error_of(client, "chat.postEphemeral", channel=rollouts, user="U404", text="x") == "user_not_found"


def test_the_app_changes_only_its_own_messages(client: WebClient, ws: Workspace) -> None:
    ws.person("alice").types("mine", channel="ml-rollouts")
    message = ws.person("alice").sees("ml-rollouts")[0]
    place = {"channel": message["channel"], "ts": message["ts"]}
    assert error_of(client, "chat.update", **place, text="x") == "cant_update_message"
    assert error_of(client, "chat.delete", **place) == "cant_delete_message"


def test_an_update_has_room_for_four_thousand_characters(client: WebClient, ws: Workspace) -> None:
    rollouts = channel_id(ws, "ml-rollouts")
    ts = client.chat_postMessage(channel=rollouts, text="x")["ts"]
    assert client.chat_update(channel=rollouts, ts=ts, text="x" * 4_000)["ok"]
    assert error_of(client, "chat.update", channel=rollouts, ts=ts, text="x" * 4_001) == "msg_too_long"


def test_history_has_pages_threads_and_metadata_on_request(client: WebClient, ws: Workspace) -> None:
    rollouts = channel_id(ws, "ml-rollouts")
    metadata = {"event_type": "delivery", "event_payload": {"delivery_id": "7"}}
    first = client.chat_postMessage(channel=rollouts, text="0", metadata=metadata)["ts"]
    for number in range(1, 5):
        client.chat_postMessage(channel=rollouts, text=str(number))
    client.chat_postMessage(channel=rollouts, text="reply", thread_ts=first)
    pages = [page["messages"] for page in client.conversations_history(channel=rollouts, limit=2)]
    assert [[each["text"] for each in page] for page in pages] == [["4", "3"], ["2", "1"], ["0"]]
    assert "metadata" not in pages[2][0]
    assert pages[2][0]["reply_count"] == 1
    full = client.conversations_history(
        channel=rollouts, include_all_metadata=True, oldest=first, latest=first, inclusive=True
    )
    assert full["messages"][0]["metadata"] == metadata
    assert [each["text"] for each in client.conversations_replies(channel=rollouts, ts=first)["messages"]] == [
        "0",
        "reply",
    ]
    assert error_of(client, "conversations.history", channel=rollouts, cursor="?") == "invalid_cursor"
    assert error_of(client, "conversations.history", channel=rollouts, limit=1_000) == "invalid_limit"
    assert error_of(client, "conversations.replies", channel=rollouts, ts="1.1") == "thread_not_found"


def test_people_groups_and_channels_are_listed(client: WebClient, ws: Workspace) -> None:
    alice = ws.person("alice")
    people = [user for page in client.users_list(limit=3) for user in page["members"]]
    assert len(people) == 7
    guests = [user["name"] for user in people if user["is_restricted"]]
    assert (guests, [user["name"] for user in people if user["deleted"]]) == (["gus"], ["dora"])
    email = client.users_info(user=alice.id)["user"]["profile"]["email"]
    assert client.users_lookupByEmail(email=email)["user"]["id"] == alice.id
    group = client.usergroups_list(include_users=True)["usergroups"][0]
    assert len(group["users"]) == 3
    assert client.usergroups_users_list(usergroup=group["id"])["users"] == group["users"][:2]
    assert [each["name"] for each in client.conversations_list(exclude_archived=True)["channels"]] == [
        "ml-rollouts",
        "random",
    ]
    assert "council" in [each["name"] for each in client.users_conversations(types="private_channel")["channels"]]
    assert error_of(client, "conversations.list", types="mpim") == "missing_scope"
    members = client.conversations_members(channel=channel_id(ws, "ml-rollouts"))["members"]
    assert alice.id in members
    assert client.auth_test()["user_id"] in members
    assert error_of(client, "users.lookupByEmail", email="no@x.example") == "users_not_found"


def test_a_page_of_channels_is_chosen_from_after_it_was_cut(client: WebClient, ws: Workspace) -> None:
    """As Slack does, so that an empty page is not yet the end."""
    pages = client.conversations_list(types="private_channel", limit=2)  # one object, which becomes the next page
    assert [[each["name"] for each in page["channels"]] for page in pages][:2] == [[], ["council"]]
    assert error_of(client, "conversations.list", limit=1_000) == "invalid_limit"


def test_direct_messages_are_opened_and_written_to_by_person(client: WebClient, ws: Workspace) -> None:
    alice = ws.person("alice")
    opened = client.conversations_open(users=alice.id)["channel"]["id"]
    assert client.chat_postMessage(channel=alice.id, text="hi")["channel"] == opened
    assert alice.waits_for("hi", channel="app")
    assert ws.get("state")["ims"]


def test_the_app_joins_a_public_channel(client: WebClient, ws: Workspace) -> None:
    random = channel_id(ws, "random")
    client.conversations_join(channel=random)
    assert client.chat_postMessage(channel=random, text="x")["ok"]
    council = channel_id(ws, "council")
    assert error_of(client, "conversations.join", channel=council) == "method_not_supported_for_channel_type"


def test_a_file_is_uploaded_and_shown(client: WebClient, ws: Workspace) -> None:
    rollouts, alice = channel_id(ws, "ml-rollouts"), ws.person("alice")
    client.files_upload_v2(
        channel=rollouts, filename="chart.png", content=b"\x89PNG", alt_txt="A chart", initial_comment="Look"
    )
    message = alice.waits_for("Look", channel=rollouts)
    file = message["files"][0]
    assert (file["name"], file["alt_txt"], file["mimetype"], file["size"]) == ("chart.png", "A chart", "image/png", 4)
    assert httpx.get(file["url_private"], trust_env=False).content == b"\x89PNG"
    shown = {"type": "image", "slack_file": {"id": file["id"]}, "alt_text": "A chart"}
    for source in ({"id": file["id"]}, {"url": file["url_private"]}):
        assert client.chat_postMessage(channel=rollouts, text="x", blocks=[{**shown, "slack_file": source}])["ok"]
    unknown = [{**shown, "slack_file": {"id": "F404"}}]
    assert error_of(client, "chat.postMessage", channel=rollouts, text="x", blocks=unknown) == "invalid_blocks"
    random = channel_id(ws, "random")
    files = [{"id": file["id"]}]
    assert error_of(client, "files.completeUploadExternal", files=files, channel_id=random) == "not_in_channel"
    assert error_of(client, "files.completeUploadExternal", files=files) == "file_not_found"


def test_a_workspace_may_not_take_the_new_blocks(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(new_blocks=False)
    client = web_client(sandbox)
    pie = {"type": "pie", "segments": [{"label": "a", "value": 1}]}
    chart = [{"type": "data_visualization", "title": "t", "chart": pie}]
    cells = [[{"type": "raw_text", "text": "x"}]]
    table = [{"type": "data_table", "caption": "c", "rows": cells * 2}]
    with Workspace(sandbox) as ws:
        rollouts, alice = channel_id(ws, "ml-rollouts"), ws.person("alice")
        ts = client.chat_postMessage(channel=rollouts, text="x")["ts"]
        for blocks in (chart, table):
            said = {"channel": rollouts, "text": "x", "blocks": blocks}
            for method, more in (
                ("chat.postMessage", {}),
                ("chat.postEphemeral", {"user": alice.id}),
                ("chat.update", {"ts": ts}),
            ):
                assert error_of(client, method, **said, **more) == "invalid_blocks"
        assert client.chat_postMessage(channel=rollouts, text="x", blocks=[{"type": "table", "rows": cells}])["ok"]
        ws.admin("new_blocks", on=True)
        assert client.chat_postMessage(channel=rollouts, text="x", blocks=[*chart, *table])["ok"]


def test_views_need_a_trigger_and_a_current_hash(client: WebClient, ws: Workspace) -> None:
    assert error_of(client, "views.open", trigger_id="1.2.x", view=MODAL) == "invalid_trigger_id"
    assert error_of(client, "views.update", view_id="V404", view=MODAL) == "not_found"
    assert error_of(client, "views.update", view=MODAL) == "invalid_arguments"
    alice = ws.person("alice").id
    first = client.views_publish(user_id=alice, view=HOME)["view"]
    second = client.views_publish(user_id=alice, view=HOME, hash=first["hash"])["view"]
    assert second["id"] == first["id"]
    assert error_of(client, "views.publish", user_id=alice, view=HOME, hash=first["hash"]) == "hash_conflict"
    assert error_of(client, "views.publish", user_id=alice, view=MODAL) == "invalid_arguments"


def test_blocks_are_validated_without_a_token(sandbox: Sandbox, client: WebClient) -> None:
    assert client.blocks_validate(blocks=[{"type": "divider"}])["ok"]
    assert client.blocks_validate(view=MODAL)["ok"]
    assert error_of(client, "blocks.validate", message={"blocks": [{"type": "poll"}]}) == "invalid_blocks"
    assert error_of(client, "blocks.validate") == "invalid_arguments"
    assert httpx.post(f"{sandbox.api_url}blocks.validate", json={"view": HOME}, trust_env=False).json()["ok"]


# -- tokens and scopes -------------------------------------------------------------------------------------------------


def test_tokens_are_checked_by_kind_and_state(sandbox: Sandbox, ws: Workspace) -> None:
    bot, app = web_client(sandbox), web_client(sandbox, sandbox.app_token)
    assert error_of(WebClient(base_url=sandbox.api_url), "auth.test") == "not_authed"
    assert error_of(web_client(sandbox, "xoxb-1"), "auth.test") == "invalid_auth"
    assert error_of(bot, "apps.connections.open") == "not_allowed_token_type"
    assert error_of(app, "chat.postMessage") == "not_allowed_token_type"
    assert error_of(bot, "chat.shout") == "unknown_method"
    ws.admin("revoke_token")
    assert error_of(bot, "auth.test") == "token_revoked"
    ws.admin("uninstall")
    assert error_of(bot, "auth.test") == "account_inactive"
    ws.admin("restore_token")
    assert bot.auth_test()["ok"]
    assert bot.auth_test().headers["x-oauth-scopes"] == ",".join(sorted(manifest()["oauth_config"]["scopes"]["bot"]))
    assert app.apps_connections_open(app_token=sandbox.app_token).headers["x-oauth-scopes"] == "connections:write"


def test_every_method_with_a_scope_refuses_an_app_without(make_sandbox: MakeSandbox) -> None:
    client = web_client(make_sandbox(manifest=manifest(scopes=["commands"])))
    for name, method in METHODS.items():
        if method.scope:
            with pytest.raises(SlackApiError) as refusal:
                client.api_call(name)
            answer = refusal.value.response
            assert (answer["error"], answer["needed"], answer["provided"]) == (
                "missing_scope",
                method.scope,
                "commands",
            )


def test_history_wants_the_scope_of_that_kind_of_channel(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(manifest=manifest(scopes=["channels:history", "channels:read"]))
    with Workspace(sandbox) as ws:
        client, council = web_client(sandbox), channel_id(ws, "council")
        assert error_of(client, "conversations.history", channel=council) == "missing_scope"
        assert error_of(client, "conversations.info", channel=council) == "missing_scope"
        assert client.conversations_history(channel=channel_id(ws, "ml-rollouts"))["ok"]


# -- what an administrator does ----------------------------------------------------------------------------------------


def test_an_administrator_archives_a_channel_and_removes_the_app(client: WebClient, ws: Workspace) -> None:
    rollouts = channel_id(ws, "ml-rollouts")
    ts = client.chat_postMessage(channel=rollouts, text="x")["ts"]
    ws.admin("leave", channel="ml-rollouts")
    assert error_of(client, "chat.postMessage", channel=rollouts, text="x") == "not_in_channel"
    ws.admin("join", channel="ml-rollouts")
    ws.admin("archive", channel="ml-rollouts")
    assert error_of(client, "chat.update", channel=rollouts, ts=ts, text="y") == "is_archived"
    ws.admin("deactivate", user="alice")
    assert client.users_info(user=ws.person("alice").id)["user"]["deleted"]
    ws.admin("guest", user="bob")
    assert client.users_info(user=ws.person("bob").id)["user"]["is_restricted"]
    assert text_of(ws.person("bob").sees("ml-rollouts")) == "x"
