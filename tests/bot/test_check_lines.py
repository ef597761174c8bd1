"""What `promotion-bot check` says of each thing that it may have seen, and how it is put right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bot.manifest import SCOPES
from bot.setup import checks, data, facts
from bot.setup.facts import Channel, Group, Identity, Slack, User
from bot.setup.findings import Finding, report
from bot.setup.seen import Folder, Seen
from core.condition import Database, Models, Trouble
from core.sections import OwnApprovals
from core.settings import AlertsSection, ApprovalsSection, ExperimentSection, Settings, SlackSection

USERS = (
    User("U1", "bob", ("Bob Tanaka",), None),
    User("U2", "carol", ("Carol Okafor",), None),
    User("U3", "dave", ("Dave Lund",), "Your account is deactivated, so you cannot decide here."),
    User("U4", "erin", ("Erin",), None),
)
GROUPS = (Group("S1", "ml-approvers", frozenset({"U1", "U3", "U4"})), Group("S2", "nobody", frozenset()))
SLACK = Slack(
    Identity("Acme", "T1", None, "promotion_bot", "B1", frozenset(SCOPES), 0.4),
    "A1",
    None,
    (Channel("C1", "ml-rollouts", False, True), Channel("C2", "ml-approvals", False, True)),
    GROUPS,
    USERS,
)
DATABASE = Database("db/exp", 160_002, "promo", True, 0.1, "current", (), (), frozenset())
WITH_EXPERIMENTS = replace(DATABASE, experiments=frozenset({"planner", "breakfast"}))
SETTINGS = Settings(
    slack_bot_token=SecretStr("xoxb-1"),
    slack_app_token=SecretStr("xapp-1-A1-2-abc"),
    database_url=SecretStr("postgresql://db/exp"),
    mlflow_tracking_uri="http://mlflow:5000",
    slack=SlackSection(approvers=("@ml-approvers", "U2"), owners=("@bob",)),
    alerts=AlertsSection(on_call=("@carol",)),
)
FOLDER = Folder(Path("data"), is_used=False, is_writable=True, has_database=False)
WELL = Seen(
    SETTINGS, Path("promotion-bot.toml"), SLACK, DATABASE, Models(4, "3.5.0", "3.1.4"), FOLDER, "127.0.0.1:3001"
)


def found(seen: Seen) -> list[Finding]:
    return [line.finding for line in checks.lines(seen)]


def test_all_is_well() -> None:
    lines = checks.lines(WELL)
    assert {line.finding.level for line in lines} == {"ok", "unknown"}
    assert [line.finding.says for line in lines if line.finding.level == "unknown"] == [
        "Whether the app has the command /rollout, Slack does not tell.",
        "Whether the bot may set tags and aliases there cannot be known without setting one.",
    ]
    assert "3 people can approve: a promotion takes 2, against the recommendation 3." in [
        line.finding.says for line in lines
    ]
    assert len({(line.area, line.check) for line in lines}) > 7
    assert report(lines).endswith("\nAll is well, 2 not known.")


def slack(**changed: Any) -> Seen:
    return replace(WELL, slack=replace(SLACK, **changed))


def identity(**changed: Any) -> Seen:
    assert isinstance(SLACK.identity, Identity)
    return slack(identity=replace(SLACK.identity, **changed))


def database(**changed: Any) -> Seen:
    return replace(WELL, database=replace(DATABASE, **changed))


def configured(**changed: Any) -> Seen:
    return replace(WELL, settings=SETTINGS.model_copy(update=changed))


def approved_by(*approvers: str, **asked: int) -> Seen:
    return configured(slack=SlackSection(approvers=approvers), approvals=ApprovalsSection(**asked))


HTTP = {"slack_app_token": None, "slack_signing_secret": SecretStr("0123456789abcdef" * 2)}
UPGRADE = Trouble("plan_upgrade_required")

LACKING = ("The role promo lacks rights. Somebody who may …:", "GRANT SELECT ON a;", "GRANT SELECT ON b;")

CASES: list[tuple[Seen, str, str, str]] = [
    (replace(WELL, file=None), "warning", "There is no promotion-bot.toml", "`promotion-bot init` writes one"),
    (
        configured(experiments={"x": ExperimentSection()}),
        "warning",
        "[experiments.x] speaks of an experiment x",
        "Correct the name, or create it.",
    ),
    (
        replace(configured(experiments={"planer": ExperimentSection()}), database=WITH_EXPERIMENTS),
        "warning",
        "[experiments.planer] speaks of an experiment planer",
        "Correct the name, or create it; the nearest is planner.",
    ),
    (replace(WELL, health=Trouble("PROMOTION_BOT_HEALTH has to be")), "fault", "PROMOTION_BOT_HEALTH", "Correct it"),
    (configured(slack_bot_token=None), "fault", "SLACK_BOT_TOKEN is not set", "promotion-bot manifest"),
    (
        replace(configured(slack_bot_token=SecretStr("xoxp-1")), slack=None),
        "fault",
        "SLACK_BOT_TOKEN is a person's token",
        "OAuth & Permissions",
    ),
    (
        replace(configured(slack_bot_token=SecretStr("xapp-1-A1"), slack_app_token=SecretStr("xoxb-1")), slack=None),
        "fault",
        "are mixed up",
        "Exchange them",
    ),
    (slack(identity=Trouble("token_revoked")), "fault", "not accepted: it was revoked", "OAuth & Permissions"),
    (
        slack(identity=Trouble("Slack cannot be reached at x: refused")),
        "fault",
        "Slack cannot be reached at x: refused.",
        "HTTPS_PROXY",
    ),
    (identity(scopes=frozenset(SCOPES) - {"files:write"}), "fault", "files:write is missing: no pictures", "Reinstall"),
    (identity(scopes=frozenset(SCOPES) | {"admin"}), "warning", "may do more than the bot needs: admin.", "Reinstall"),
    (identity(scopes=None), "unknown", "does not say which scopes", ""),
    (identity(ahead_s=-90.0), "warning", "clock is 90 s from Slack's", "NTP"),
    (
        replace(identity(ahead_s=400.0), settings=SETTINGS.model_copy(update=HTTP)),
        "fault",
        "400 s from Slack's, so signed requests are refused",
        "NTP",
    ),
    (configured(slack_app_token=None), "fault", "Neither SLACK_APP_TOKEN", "connections:write"),
    (configured(slack_app_token=SecretStr("xoxb-2")), "fault", "SLACK_APP_TOKEN is a bot token", "App-Level Tokens"),
    (slack(socket=Trouble("missing_scope")), "fault", "opens no Socket Mode connection", "connections:write"),
    (slack(app_id="A2"), "fault", "belong to two different apps", "App-Level Tokens"),
    (configured(slack_signing_secret=SecretStr("x")), "ok", "is set as well, and not used: Socket Mode goes first", ""),
    (configured(**HTTP), "ok", "HTTP: a signing secret is set.", ""),
    (configured(**HTTP), "unknown", "Whether Slack reaches POST /slack/events", "type the command's `help`"),
    (configured(**HTTP | {"slack_signing_secret": SecretStr("xoxb-1")}), "fault", "not 32 digits", "Signing Secret"),
    (
        configured(slack=SlackSection(rollouts_channel="ml-rollout")),
        "fault",
        "#ml-rollout (rollouts_channel) is no ch",
        "there is #ml-rollouts), and type in it: /invite @Promotion Bot",
    ),
    (
        configured(experiments={"x": ExperimentSection(channel="C9")}),
        "fault",
        "#C9 (channel in [experiments.x])",
        "Cre",
    ),
    (slack(channels=(Channel("C1", "ml-rollouts", True, True),)), "fault", "is archived", "Unarchive it"),
    (slack(channels=(Channel("C1", "ml-rollouts", False, False),)), "fault", "the bot is not in it", "/invite @Promot"),
    (slack(channels=Trouble("slow")), "unknown", "#ml-approvals was not looked at: Slack did not answer in time", ""),
    (approved_by("@bbo"), "fault", "@bbo (approvers) is nobody in the workspace", "Perhaps @bob is meant"),
    (
        approved_by("@Okafor"),
        "fault",
        "@Okafor (approvers) is nobody",
        'Carol Okafor has the handle "@carol" and the id "U2"',
    ),
    (approved_by("@nobody"), "warning", "@nobody (approvers) is a user group without members", "Add somebody"),
    (approved_by("@dave"), "warning", "@dave (approvers) is deactivated, so never decides", "somebody else"),
    (
        replace(approved_by("S9"), slack=replace(SLACK, groups=UPGRADE)),
        "warning",
        "plan has no user groups, so only people",
        "by handle or id",
    ),
    (
        replace(approved_by("@x"), slack=replace(SLACK, users=Trouble("ratelimited"))),
        "unknown",
        "Not looked up: @x",
        "",
    ),
    (approved_by(), "fault", "Nobody is an approver", "approvers = ["),
    (approved_by("@bob"), "fault", "1 person can approve, and a promotion takes 2", "Name more approvers"),
    (
        configured(experiments={"x": ExperimentSection(approvals=OwnApprovals(production=4), owners=("@erin",))}),
        "fault",
        "x: 3 people can approve, and a promotion takes 4",
        "Name more approvers",
    ),
    (approved_by("@dave", production=1), "fault", "0 people can approve", "Name more approvers"),
    (
        approved_by("@bob", "@carol"),
        "warning",
        "2 people can approve: a promotion takes 2 beside whoever asks, so none of them",
        "Name more",
    ),
    (
        approved_by("@bob", "@carol", "@erin", against=2),
        "warning",
        "against the recommendation or the checklist it takes 4",
        "[",
    ),
    (configured(alerts=AlertsSection()), "warning", "Nobody is on call", "on_call = ["),
    (
        replace(WELL, database=Trouble("x refused it")),
        "fault",
        "The database cannot be used: x refused it.",
        "DATABASE_URL",
    ),
    (replace(WELL, database=Trouble("slow")), "fault", "The database did not answer in time.", "DATABASE_URL"),
    (replace(WELL, database=None), "warning", "starts a PostgreSQL of its own in data, which is not there yet", "name"),
    (database(server=130_011), "fault", "db/exp is PostgreSQL 13.11", "14 or newer"),
    (database(takes_changes=False), "fault", "takes no changes", "primary"),
    (database(ahead_s=-3600.0), "warning", "clock is 3,600 s from this machine's", "NTP"),
    (database(standing="behind"), "warning", "of an older release", "brings them up to date"),
    (database(standing="waiting"), "warning", "what only the release before needs", "migrate --after"),
    (database(standing="newer"), "warning", "of a newer release", "Run that one"),
    (database(standing="missing"), "ok", "not there yet: `promotion-bot run` creates them", ""),
    (
        replace(WELL, database=replace(WITH_EXPERIMENTS, standing="missing")),
        "warning",
        "The database has 2 experiments, and the bot's tables are not there yet.",
        "`promotion-bot adopt` comes first",
    ),
    (replace(WELL, database=WITH_EXPERIMENTS), "ok", "the tables and columns of exp fit.", ""),
    (
        database(standing=Trouble("A newer release took it away. Start that")),
        "fault",
        "A newer release took it away.",
        "Start that.",
    ),
    (
        database(owned_by_others=("effects", "ledger")),
        "fault",
        "2 of the bot's tables belong to another role",
        "REASSIGN",
    ),
    (
        database(blockers=("The role promo lacks a right: GRANT SELECT;",)),
        "fault",
        "The role promo lacks a right.",
        "GRANT SEL",
    ),
    (
        database(blockers=("exp.events is missing.",) * 9),
        "fault",
        "9 things keep the bot from starting.",
        "exp.events is missing.\nand 4 more\n`promotion-bot adopt` tells",
    ),
    (database(blockers=("exp.events is missing.",)), "fault", "exp.events is missing.", "adopt --grants promo"),
    (database(blockers=LACKING), "fault", "The role promo lacks 2 rights.", "GRANT SELECT ON a;\nGRANT SELECT ON b;"),
    (
        replace(WELL, models=Trouble("error code 401")),
        "fault",
        "http://mlflow:5000 cannot be used",
        "MLFLOW_TRACKING_USERNAME",
    ),
    (replace(WELL, models=Models(1, "3.5.0", "2.9.2")), "warning", "The server is MLflow 2.9.2", "same major"),
    (replace(WELL, models=None), "ok", "makes a store of its own", ""),
    (
        replace(configured(mlflow_tracking_uri=None), models=None),
        "warning",
        "makes a store of its own",
        "name the MLflow",
    ),
    (replace(WELL, models=Trouble("unopened")), "unknown", "was not looked at, since such a store may be changed", ""),
    (
        replace(WELL, folder=replace(FOLDER, is_used=True, is_writable=False)),
        "fault",
        "data cannot be written",
        "PROMOTION_BOT_",
    ),
]


@pytest.mark.parametrize(("seen", "level", "says", "remedy"), CASES, ids=[case[2] for case in CASES])
def test_each_thing_has_its_line_and_its_remedy(seen: Seen, level: str, says: str, remedy: str) -> None:
    lines = [finding for finding in found(seen) if says in finding.says]
    assert [finding.level for finding in lines][:1] == [level], found(seen)
    assert remedy in lines[0].remedy
    assert bool(remedy) == bool(lines[0].remedy) or level == "unknown"


def test_every_line_that_is_not_well_has_a_remedy() -> None:
    bare = [
        each for seen, *_ in CASES for each in found(seen) if each.level in ("warning", "fault") and not each.remedy
    ]
    assert bare == []


def test_missing_rights_are_one_fault_with_all_that_it_takes() -> None:
    lines = [line for line in checks.lines(database(blockers=LACKING)) if line.finding.level == "fault"]
    assert report(lines).splitlines()[1:5] == [
        "  ✗ The role promo lacks 2 rights.",
        "      Somebody who may runs this; `promotion-bot adopt --grants promo` prints all that it needs.",
        "      GRANT SELECT ON a;",
        "      GRANT SELECT ON b;",
    ]


def test_the_command_is_not_spoken_of_where_slack_was_not_reached() -> None:
    for seen in (slack(identity=Trouble("token_revoked")), replace(WELL, slack=None)):
        assert not [finding for finding in found(seen) if "the command" in finding.says]


def test_a_network_that_fails_is_not_the_token_s_fault() -> None:
    says = [finding.says for finding in found(slack(identity=Trouble("Slack cannot be reached at x: refused")))]
    assert "Slack cannot be reached at x: refused." in says


def test_what_hangs_hides_nothing_else() -> None:
    seen = replace(WELL, slack=facts.nothing(Trouble("slow")), database=Trouble("slow"), models=Trouble("slow"))
    assert [finding.level for finding in found(seen)].count("fault") == 3
    assert "#ml-approvals was not looked at, since Slack was not asked." in [finding.says for finding in found(seen)]


@pytest.mark.parametrize(
    ("says", "shown"),
    [
        ("at http://me:s3cret@mlflow:5000 or ://x", "at http://me:***@mlflow:5000 or ://x"),
        ("http://me:pa@s3cret@mlflow:5000 refused", "http://me:***@mlflow:5000 refused"),
        ("http://me:pa/s3cret@mlflow/x", "http://me:***@mlflow/x"),
        (
            "postgresql://host:5432/base?user=me&password=pa@s3cret&a=b",
            "postgresql://host:5432/base?user=me&password=***&a=b",
        ),
        ("http://mlflow:5000/path", "http://mlflow:5000/path"),
    ],
)
def test_passwords_in_addresses_are_left_out(says: str, shown: str) -> None:
    assert data.without_password(says) == shown
