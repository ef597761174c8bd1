"""The schema as code sees it. Every constraint lives in the migrations; nothing is created from here."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ARRAY, BigInteger, FetchedValue, ForeignKey, Numeric
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

Json = dict[str, Any]


class Base(DeclarativeBase):
    type_annotation_map = {
        Json: JSONB,
        list[Any]: JSONB,
        datetime: TIMESTAMP(timezone=True),
        Decimal: Numeric(5, 4),
    }
    __mapper_args__ = {"eager_defaults": True}


def _generated() -> FetchedValue:
    return FetchedValue()


class Policy(Base):
    """A way of making decisions, for example a planner; its versions are what experiments compare."""

    __tablename__ = "policies"
    __table_args__ = {"schema": "exp"}

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=_generated())
    name: Mapped[str]
    description: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_generated())


class PolicyVersion(Base):
    """Links a policy to one MLflow model version with the configuration it is served with."""

    __tablename__ = "policy_versions"
    __table_args__ = {"schema": "exp"}

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=_generated())
    policy_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("exp.policies.id"))
    version: Mapped[int]
    mlflow_model_name: Mapped[str | None]
    mlflow_model_version: Mapped[str | None]
    config_defaults: Mapped[Json | None]
    status: Mapped[str] = mapped_column(server_default=_generated())
    created_at: Mapped[datetime] = mapped_column(server_default=_generated())
    policy: Mapped[Policy] = relationship(lazy="joined", innerjoin=True)


class Experiment(Base):
    """A comparison of variants of one policy on live traffic."""

    __tablename__ = "experiments"
    __table_args__ = {"schema": "exp"}

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=_generated())
    name: Mapped[str]
    description: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default=_generated())
    unit_type: Mapped[str] = mapped_column(server_default=_generated())
    start_at: Mapped[datetime | None]
    end_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_generated())


class Variant(Base):
    """One arm of an experiment; `allocation` is its share of newly assigned units, from 0 to 1."""

    __tablename__ = "variants"
    __table_args__ = {"schema": "exp"}

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=_generated())
    experiment_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("exp.experiments.id"))
    name: Mapped[str]
    description: Mapped[str | None]
    allocation: Mapped[Decimal]
    config: Mapped[Json | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_generated())


class Event(Base):
    """One outcome of the platform, or a control event that the bot appends."""

    __tablename__ = "events"
    __table_args__ = {"schema": "exp"}

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=_generated())
    event_type: Mapped[str]
    unit_type: Mapped[str]
    unit_id: Mapped[str]
    experiments: Mapped[list[Any] | None]
    context: Mapped[Json | None]
    metrics: Mapped[Json | None]
    payload: Mapped[Json | None]
    timestamp: Mapped[datetime]


class ReplayResult(Base):
    """One offline replay of a policy version against a baseline on a dataset."""

    __tablename__ = "offline_replay_results"
    __table_args__ = {"schema": "exp"}

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=_generated())
    policy_version_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("exp.policy_versions.id"))
    dataset_version: Mapped[str | None]
    mlflow_run_id: Mapped[str | None]
    plan_alignment_score: Mapped[Decimal | None] = mapped_column(Numeric(10, 6))
    constraint_respect_score: Mapped[Decimal | None] = mapped_column(Numeric(10, 6))
    edit_distance_score: Mapped[Decimal | None] = mapped_column(Numeric(10, 6))
    diversity_score: Mapped[Decimal | None] = mapped_column(Numeric(10, 6))
    leftovers_score: Mapped[Decimal | None] = mapped_column(Numeric(10, 6))
    baseline_version_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("exp.policy_versions.id"))
    is_better_than_baseline: Mapped[bool | None]
    status: Mapped[str] = mapped_column(server_default=_generated())
    error_message: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_generated())


class PolicyStage(Base):
    """Where a policy version stands; what MLflow's tags and aliases mirror."""

    __tablename__ = "stages"
    __table_args__ = {"schema": "promotion"}

    policy_version_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("exp.policy_versions.id"), primary_key=True)
    mlflow_model_name: Mapped[str]
    mlflow_model_version: Mapped[str]
    stage: Mapped[str]
    predecessor_id: Mapped[uuid.UUID | None]
    failed_at: Mapped[datetime | None]
    changed_at: Mapped[datetime] = mapped_column(server_default=_generated())


class Qualification(Base):
    """Why a model version may be a candidate."""

    __tablename__ = "qualifications"
    __table_args__ = {"schema": "promotion"}

    mlflow_model_name: Mapped[str] = mapped_column(primary_key=True)
    mlflow_model_version: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]
    evidence: Mapped[Json]
    actor: Mapped[str]
    reason: Mapped[str | None]
    at: Mapped[datetime] = mapped_column(server_default=_generated())


class Request(Base):
    """A change that somebody asked for, as its card showed it."""

    __tablename__ = "requests"
    __table_args__ = {"schema": "promotion"}

    id: Mapped[int] = mapped_column(primary_key=True, server_default=_generated())
    experiment_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("exp.experiments.id"))
    action: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=_generated())
    requester: Mapped[str]
    reason: Mapped[str | None]
    override: Mapped[str | None]
    params: Mapped[Json]
    changes: Mapped[list[Any]]
    checklist: Mapped[list[Any]]
    needed: Mapped[int]
    """How many approvals it takes."""
    shown: Mapped[Json]
    """What else the card rests on: the variants as they were, open alerts, and which drawing it is."""
    mark: Mapped[str]
    """Names all that the card shows; an approval is given for one mark."""
    drawn_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=_generated())
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None]
    decision_reason: Mapped[str | None]
    is_glass_broken: Mapped[bool] = mapped_column(server_default=_generated())
    """True where an owner had it carried out without its approvals."""
    signature_id: Mapped[int | None]
    """The signature by which it was carried out without anybody's approval; on an automatic return alone."""


class Approval(Base):
    """One person's decision on one request as one drawing of its card showed it."""

    __tablename__ = "approvals"
    __table_args__ = {"schema": "promotion"}

    request_id: Mapped[int] = mapped_column(ForeignKey("promotion.requests.id"), primary_key=True)
    person: Mapped[str] = mapped_column(primary_key=True)
    mark: Mapped[str] = mapped_column(primary_key=True)
    decision: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=_generated())


class AllocationStep(Base):
    """A period of constant shares: it lasts until the experiment's next step."""

    __tablename__ = "allocation_steps"
    __table_args__ = {"schema": "promotion"}

    id: Mapped[int] = mapped_column(primary_key=True, server_default=_generated())
    experiment_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("exp.experiments.id"))
    shares: Mapped[Json]
    started_at: Mapped[datetime] = mapped_column(server_default=_generated())
    request_id: Mapped[int | None]
    source: Mapped[str] = mapped_column(server_default=_generated())
    """`bot`; `noticed`: others changed the shares, the time is when it was seen; `adopted`: and somebody adopted them;
    `reconstructed` from assignments."""


class RetiredName(Base):
    """The name a variant had before it was archived, so that a rollback can give it back."""

    __tablename__ = "retired_names"
    __table_args__ = {"schema": "promotion"}

    variant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    retired_at: Mapped[datetime] = mapped_column(server_default=_generated())


class LedgerEntry(Base):
    """Who did what, when and why, with the state before and after, and what it rests on.

    The database refuses to change a row; its place in the chain of hashes is in `Seal`.
    """

    __tablename__ = "ledger"
    __table_args__ = {"schema": "promotion"}

    id: Mapped[int] = mapped_column(primary_key=True, server_default=_generated())
    at: Mapped[datetime] = mapped_column(server_default=_generated())
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    experiment_id: Mapped[uuid.UUID | None]
    request_id: Mapped[int | None]
    reason: Mapped[str | None]
    before: Mapped[Json | None]
    after: Mapped[Json | None]
    evidence: Mapped[Json | None]


class Seal(Base):
    """The place of one ledger row in the chain: the hash of what it says, the hash before, and the hash of all this."""

    __tablename__ = "seals"
    __table_args__ = {"schema": "promotion"}

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ledger_id: Mapped[int]
    content: Mapped[str]
    previous: Mapped[str]
    hash: Mapped[str]
    sealed_at: Mapped[datetime] = mapped_column(server_default=_generated())


class Effect(Base):
    """Something to bring in line outside the database, carried out after the commit."""

    __tablename__ = "effects"
    __table_args__ = {"schema": "promotion"}

    id: Mapped[int] = mapped_column(primary_key=True, server_default=_generated())
    key: Mapped[str]
    kind: Mapped[str]
    subject: Mapped[str]
    request_id: Mapped[int | None]
    payload: Mapped[Json]
    attempts: Mapped[int] = mapped_column(server_default=_generated())
    due_at: Mapped[datetime] = mapped_column(server_default=_generated())
    created_at: Mapped[datetime] = mapped_column(server_default=_generated())
    done_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    origin: Mapped[str | None]
    """The id of what put it, as the log has it."""


class Message(Base):
    """Where a card stands in the chat, so that it is redrawn in place."""

    __tablename__ = "messages"
    __table_args__ = {"schema": "promotion"}

    key: Mapped[str] = mapped_column(primary_key=True)
    channel: Mapped[str]
    ts: Mapped[str]
    posted_at: Mapped[datetime] = mapped_column(server_default=_generated())


class Evidence(Base):
    """A sample as it was at a look, by the SHA-256 of its bytes."""

    __tablename__ = "evidence"
    __table_args__ = {"schema": "promotion"}

    digest: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[bytes]


class Recommendation(Base):
    """A look at one candidate: what was recommended, on what it rests, and what the next look must know.

    There is one daily look a day, and the first alarm of a look in between.

    `look`, `terms` and the memory of the row before are all that the verdict is made of; `first_step_id` names the
    step with which the candidate's present run began.
    """

    __tablename__ = "recommendations"
    __table_args__ = {"schema": "promotion"}

    id: Mapped[int] = mapped_column(primary_key=True, server_default=_generated())
    experiment_id: Mapped[uuid.UUID]
    variant_id: Mapped[uuid.UUID]
    first_step_id: Mapped[int]
    step_id: Mapped[int]
    day: Mapped[date]
    is_daily: Mapped[bool]
    made_at: Mapped[datetime] = mapped_column(server_default=_generated())
    action: Mapped[str]
    why: Mapped[str]
    terms: Mapped[Json]
    look: Mapped[Json]
    previous_id: Mapped[int | None]
    memory: Mapped[Json]
    decision: Mapped[str | None]
    """The whole verdict as `verdict.as_text` gives it; None where it is older than this column."""


class Rollout(Base):
    """One run of a candidate in an experiment, and what its living card last told people.

    `shown` is what a digest says of it; `posted_on` is the local day of the card's present message.
    """

    __tablename__ = "rollouts"
    __table_args__ = {"schema": "promotion"}

    id: Mapped[int] = mapped_column(primary_key=True, server_default=_generated())
    experiment_id: Mapped[uuid.UUID]
    variant_id: Mapped[uuid.UUID]
    first_step_id: Mapped[int]
    variant: Mapped[str]
    channel: Mapped[str]
    action: Mapped[str]
    posted_action: Mapped[str]
    """The verdict with which the present message was posted."""
    shown: Mapped[Json]
    told_at: Mapped[datetime] = mapped_column(server_default=_generated())
    posted_on: Mapped[date]
    edits: Mapped[int] = mapped_column(server_default=_generated())
    hold_until: Mapped[datetime | None]
    held_by: Mapped[str | None]
    hold_reason: Mapped[str | None]
    ended_at: Mapped[datetime | None]


class Freeze(Base):
    """That nothing moves on in an experiment, or in all of them, until somebody ends it."""

    __tablename__ = "freezes"
    __table_args__ = {"schema": "promotion"}

    id: Mapped[int] = mapped_column(primary_key=True, server_default=_generated())
    experiment_id: Mapped[uuid.UUID | None]
    """None: all experiments."""
    frozen_by: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=_generated())
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]


class DailyRecommendation(Base):
    """That the recommendation of an experiment's local day was made, about which rollouts, and whether in time."""

    __tablename__ = "daily_recommendations"
    __table_args__ = {"schema": "promotion"}

    experiment_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    due_at: Mapped[datetime]
    made_at: Mapped[datetime] = mapped_column(server_default=_generated())
    is_late: Mapped[bool]
    channel: Mapped[str]
    rollouts: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))


class Alert(Base):
    """Trouble with a rollout that people were told of, until it ended one way or another.

    `proposals` are the shares, by what is given back, that a rollback would leave; `began_at` is when the trouble can
    have begun at the earliest, `seen_at` when it was seen last.
    """

    __tablename__ = "alerts"
    __table_args__ = {"schema": "promotion"}

    id: Mapped[int] = mapped_column(primary_key=True, server_default=_generated())
    experiment_id: Mapped[uuid.UUID]
    variant_id: Mapped[uuid.UUID | None]
    variant: Mapped[str | None]
    channel: Mapped[str]
    cause: Mapped[str]
    whose: Mapped[str]
    is_critical: Mapped[bool]
    why: Mapped[str]
    numbers: Mapped[list[Any]]
    proposals: Mapped[Json]
    state: Mapped[str] = mapped_column(server_default=_generated())
    step_id: Mapped[int]
    began_at: Mapped[datetime]
    opened_at: Mapped[datetime] = mapped_column(server_default=_generated())
    seen_at: Mapped[datetime] = mapped_column(server_default=_generated())
    quiet_at: Mapped[datetime | None]
    """When a look last did not show it."""
    looks: Mapped[int] = mapped_column(server_default=_generated())
    snoozed_until: Mapped[datetime | None]
    snoozed_by: Mapped[str | None]
    escalated: Mapped[int] = mapped_column(server_default=_generated())
    request_id: Mapped[int | None]
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]
    end_reason: Mapped[str | None]


class SafetySignature(Base):
    """That an owner lets a candidate return to its previous share by itself, for one run: where a critical alert is
    unanswered for so many minutes.

    Before the run begins it is known by the request of its start alone.
    """

    __tablename__ = "safety_signatures"
    __table_args__ = {"schema": "promotion"}

    id: Mapped[int] = mapped_column(primary_key=True, server_default=_generated())
    experiment_id: Mapped[uuid.UUID]
    request_id: Mapped[int | None]
    variant_id: Mapped[uuid.UUID | None]
    first_step_id: Mapped[int | None]
    minutes: Mapped[int]
    signed_by: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=_generated())
    withdrawn_at: Mapped[datetime | None]
    withdrawn_by: Mapped[str | None]


class Countdown(Base):
    """The countdown to an automatic return on the card of an alert, and how it ended; `mark` names the shares."""

    __tablename__ = "countdowns"
    __table_args__ = {"schema": "promotion"}

    alert_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    signature_id: Mapped[int]
    state: Mapped[str] = mapped_column(server_default=_generated())
    share_before: Mapped[Decimal]
    share_after: Mapped[Decimal]
    mark: Mapped[str]
    returns_at: Mapped[datetime]
    drawn_by: Mapped[str]
    """The effect that shows it on the card."""
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]
    why: Mapped[str | None]


class Discrepancy(Base):
    """What was decided, and what others made of it, until somebody adopts or reverts that or it is gone."""

    __tablename__ = "discrepancies"
    __table_args__ = {"schema": "promotion"}

    id: Mapped[int] = mapped_column(primary_key=True, server_default=_generated())
    experiment_id: Mapped[uuid.UUID | None]
    mlflow_model_name: Mapped[str | None]
    kind: Mapped[str]
    decided: Mapped[Json]
    found: Mapped[Json]
    request_id: Mapped[int | None]
    """The request that decided it; None where none did, or that is not known."""
    edits: Mapped[int] = mapped_column(server_default=_generated())
    state: Mapped[str] = mapped_column(server_default=_generated())
    found_at: Mapped[datetime] = mapped_column(server_default=_generated())
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]
    end_reason: Mapped[str | None]
