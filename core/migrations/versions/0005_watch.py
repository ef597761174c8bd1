"""What people are told unasked: rollouts with their living card, the day's recommendation, alerts.

Revision ID: 0005
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = """
-- One run of a candidate, from joining until it has no share any more; its card moves on to a new message at most
-- once a day, because the key of that message (promotion.messages) is the rollout and the day.
CREATE TABLE promotion.rollouts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment_id uuid NOT NULL,
    variant_id uuid NOT NULL,
    first_step_id bigint NOT NULL,
    variant text NOT NULL,
    channel text NOT NULL,
    action text NOT NULL CHECK (action IN ('increase', 'promote', 'wait', 'rollback', 'hold')),
    posted_action text NOT NULL,
    shown jsonb NOT NULL,
    told_at timestamptz NOT NULL DEFAULT now(),
    posted_on date NOT NULL,
    edits integer NOT NULL DEFAULT 0,
    hold_until timestamptz,
    held_by text,
    hold_reason text,
    ended_at timestamptz,
    UNIQUE (variant_id, first_step_id),
    CHECK ((hold_until IS NULL) = (held_by IS NULL) AND (hold_until IS NULL) = (hold_reason IS NULL))
);
CREATE INDEX rollouts_running_idx ON promotion.rollouts (experiment_id) WHERE ended_at IS NULL;

-- That a day's recommendation was made: once per experiment and local day, whoever does it and whenever.
CREATE TABLE promotion.daily_recommendations (
    experiment_id uuid NOT NULL,
    day date NOT NULL,
    due_at timestamptz NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    is_late boolean NOT NULL,
    channel text NOT NULL,
    rollouts bigint[] NOT NULL,
    PRIMARY KEY (experiment_id, day)
);
CREATE INDEX daily_recommendations_digest_idx ON promotion.daily_recommendations (channel, day);

CREATE TABLE promotion.alerts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment_id uuid NOT NULL,
    variant_id uuid,
    variant text,
    channel text NOT NULL,
    cause text NOT NULL CHECK (cause IN
        ('regression', 'constraints', 'limit', 'silence', 'both arms', 'baseline', 'sample ratio', 'lingering')),
    whose text NOT NULL CHECK (whose IN ('candidate', 'both', 'data', 'assignment')),
    is_critical boolean NOT NULL,
    why text NOT NULL,
    numbers jsonb NOT NULL,
    proposals jsonb NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'confirmed', 'dismissed', 'recovered', 'superseded')),
    step_id bigint NOT NULL,
    began_at timestamptz NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    looks integer NOT NULL DEFAULT 1,
    snoozed_until timestamptz,
    snoozed_by text,
    escalated integer NOT NULL DEFAULT 0,
    request_id bigint REFERENCES promotion.requests (id) ON DELETE SET NULL,
    ended_at timestamptz,
    ended_by text,
    end_reason text,
    CHECK ((state = 'open') = (ended_at IS NULL)),
    CHECK (state NOT IN ('confirmed', 'dismissed') OR ended_by IS NOT NULL),
    CHECK (state <> 'dismissed' OR coalesce(end_reason, '') <> '')
);
CREATE UNIQUE INDEX one_open_alert_per_cause ON promotion.alerts
    (experiment_id, cause, coalesce(variant_id, '00000000-0000-0000-0000-000000000000')) WHERE state = 'open';
CREATE INDEX alerts_experiment_idx ON promotion.alerts (experiment_id, id);
"""


def upgrade() -> None:
    op.execute(SCHEMA)
