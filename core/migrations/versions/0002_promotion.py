"""The bot's own schema: stages, qualifications, steps, requests, approvals, ledger, effects, messages.

Revision ID: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE FUNCTION promotion.shares_total(shares jsonb) RETURNS numeric LANGUAGE sql IMMUTABLE AS
$$ SELECT coalesce(sum(value::numeric), 0) FROM jsonb_each_text(shares) $$;

CREATE TABLE promotion.stages (
    policy_version_id uuid PRIMARY KEY REFERENCES exp.policy_versions (id) ON DELETE CASCADE,
    mlflow_model_name text NOT NULL,
    mlflow_model_version text NOT NULL,
    stage text NOT NULL CHECK (stage IN ('none', 'candidate', 'experiment', 'production', 'archived')),
    predecessor_id uuid,
    failed_at timestamptz,
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX one_production_per_model ON promotion.stages (mlflow_model_name) WHERE stage = 'production';
CREATE INDEX stages_model_idx ON promotion.stages (mlflow_model_name, mlflow_model_version);

CREATE TABLE promotion.qualifications (
    mlflow_model_name text NOT NULL,
    mlflow_model_version text NOT NULL,
    source text NOT NULL CHECK (source IN ('replay', 'run', 'tag', 'override')),
    evidence jsonb NOT NULL,
    actor text NOT NULL,
    reason text,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (mlflow_model_name, mlflow_model_version)
);

CREATE TABLE promotion.requests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment_id uuid NOT NULL REFERENCES exp.experiments (id) ON DELETE CASCADE,
    action text NOT NULL CHECK (action IN ('start', 'increase', 'promote', 'rollback', 'retire')),
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'applied', 'rejected', 'withdrawn', 'superseded')),
    requester text NOT NULL,
    reason text,
    override text,
    params jsonb NOT NULL,
    changes jsonb NOT NULL,
    checklist jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    decided_at timestamptz,
    decided_by text,
    decision_reason text,
    CHECK ((state = 'open') = (decided_at IS NULL)),
    CHECK (state <> 'rejected' OR coalesce(decision_reason, '') <> '')
);
CREATE UNIQUE INDEX one_open_request_per_experiment ON promotion.requests (experiment_id) WHERE state = 'open';
CREATE INDEX requests_experiment_idx ON promotion.requests (experiment_id, id);

CREATE TABLE promotion.approvals (
    request_id bigint NOT NULL REFERENCES promotion.requests (id) ON DELETE CASCADE,
    person text NOT NULL,
    decision text NOT NULL CHECK (decision IN ('approve', 'reject')),
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (request_id, person)
);

CREATE TABLE promotion.allocation_steps (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment_id uuid NOT NULL REFERENCES exp.experiments (id) ON DELETE CASCADE,
    shares jsonb NOT NULL CONSTRAINT step_shares_sum_to_one CHECK (promotion.shares_total(shares) = 1),
    started_at timestamptz NOT NULL DEFAULT now(),
    request_id bigint REFERENCES promotion.requests (id)
);
CREATE INDEX allocation_steps_idx ON promotion.allocation_steps (experiment_id, started_at);

CREATE TABLE promotion.retired_names (
    variant_id uuid PRIMARY KEY,
    name text NOT NULL,
    retired_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE promotion.ledger (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    experiment_id uuid,
    request_id bigint,
    reason text,
    before jsonb,
    after jsonb
);
CREATE INDEX ledger_experiment_idx ON promotion.ledger (experiment_id, id);
CREATE FUNCTION promotion.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only';
END $$;
CREATE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON promotion.ledger
    FOR EACH STATEMENT EXECUTE FUNCTION promotion.refuse_change();

CREATE TABLE promotion.effects (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,
    kind text NOT NULL,
    subject text NOT NULL,
    request_id bigint REFERENCES promotion.requests (id) ON DELETE CASCADE,
    payload jsonb NOT NULL DEFAULT '{}',
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz,
    last_error text
);
CREATE INDEX effects_due_idx ON promotion.effects (kind, due_at) WHERE done_at IS NULL;

CREATE TABLE promotion.messages (
    key text PRIMARY KEY,
    channel text NOT NULL,
    ts text NOT NULL,
    posted_at timestamptz NOT NULL DEFAULT now()
);
"""


def upgrade() -> None:
    op.execute(SCHEMA)
