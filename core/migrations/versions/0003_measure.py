"""Measurement: the state of each plan, the samples that are kept of them, and how far the events have been read.

Revision ID: 0003
"""

from alembic import op
from sqlalchemy import text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = """
ALTER TABLE promotion.allocation_steps
    ADD COLUMN source text NOT NULL DEFAULT 'bot' CHECK (source IN ('bot', 'noticed', 'reconstructed')),
    ADD COLUMN is_measured boolean NOT NULL DEFAULT false;
CREATE INDEX allocation_steps_unmeasured_idx ON promotion.allocation_steps (experiment_id) WHERE NOT is_measured;

-- Short numbers for what is named in every row below. No foreign keys to exp: measuring never keeps a team from
-- deleting what is theirs.
CREATE TABLE promotion.measure_experiments (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment_id uuid NOT NULL UNIQUE
);
CREATE TABLE promotion.measure_arms (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment integer NOT NULL REFERENCES promotion.measure_experiments (id),
    variant_id uuid NOT NULL UNIQUE
);
CREATE INDEX measure_arms_experiment_idx ON promotion.measure_arms (experiment);

-- What is known of each plan. Every column is a minimum, a maximum, an "or" or a set of what the events said, so
-- their order never matters. `arm` is null while only outcomes have come; `at` is then the time of the first. `extra`
-- is what a team's own metrics need. An update must not move a row: fillfactor.
CREATE TABLE promotion.plans (
    plan bigint NOT NULL,
    unit bigint,
    at timestamptz NOT NULL,
    tie bigint,
    cost_nano bigint,
    tokens bigint,
    step bigint,
    experiment integer NOT NULL,
    arm integer,
    edit_count integer NOT NULL,
    events integer NOT NULL,
    bin smallint,
    accepted boolean NOT NULL,
    intervened boolean NOT NULL,
    edit_keys bigint[],
    extra jsonb,
    PRIMARY KEY (plan, experiment)
) WITH (fillfactor = 90);
CREATE INDEX plans_at_idx ON promotion.plans USING brin (at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX plans_waiting_idx ON promotion.plans (experiment) WHERE arm IS NULL;

CREATE TABLE promotion.samples (
    arm integer NOT NULL,
    step bigint NOT NULL,
    units bigint NOT NULL DEFAULT 0 CHECK (units >= 0),
    content bytea NOT NULL,
    PRIMARY KEY (arm, step)
);
CREATE TABLE promotion.samples_daily (
    arm integer NOT NULL,
    step bigint NOT NULL,
    day date NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (arm, step, day)
);
-- The content is compressed already.
ALTER TABLE promotion.samples ALTER content SET STORAGE EXTERNAL;
ALTER TABLE promotion.samples_daily ALTER content SET STORAGE EXTERNAL;

-- The first plan of each unit in an experiment.
CREATE TABLE promotion.measure_units (
    unit bigint NOT NULL,
    at timestamptz NOT NULL,
    tie bigint NOT NULL,
    step bigint NOT NULL,
    experiment integer NOT NULL,
    arm integer NOT NULL,
    PRIMARY KEY (unit, experiment)
);
-- Units newly assigned in each step (0: before the first), counted now and then.
CREATE TABLE promotion.measure_assigned (
    experiment_id uuid NOT NULL,
    step bigint NOT NULL,
    variant_id uuid NOT NULL,
    units bigint NOT NULL,
    PRIMARY KEY (experiment_id, step, variant_id)
);
-- Plans generated in each quarter of an hour.
CREATE TABLE promotion.measure_slots (
    experiment integer NOT NULL,
    slot timestamptz NOT NULL,
    plans bigint NOT NULL,
    PRIMARY KEY (experiment, slot)
);
-- What was found wrong with events. The nil uuid stands for events that name no experiment.
CREATE TABLE promotion.measure_counts (
    experiment_id uuid NOT NULL,
    kind text NOT NULL,
    day date NOT NULL,
    events bigint NOT NULL,
    PRIMARY KEY (experiment_id, kind, day)
);

-- One row: how far the events have been read. core/cursor.py explains the columns.
CREATE TABLE promotion.measure_cursor (
    is_the_one boolean PRIMARY KEY DEFAULT true CHECK (is_the_one),
    horizon bigint,
    horizon_at timestamptz,
    seen_next bigint,
    seen_at timestamptz,
    frozen_before date,
    scan text CHECK (scan IN ('all', 'recent', 'sweep')),
    pass_horizon bigint,
    pass_next bigint,
    pass_at timestamptz,
    pass_key text CHECK (pass_key IN ('created_at', 'timestamp')),
    pass_low timestamptz,
    after_at text,
    after_id uuid
);
INSERT INTO promotion.measure_cursor DEFAULT VALUES;
CREATE TABLE promotion.measure_ahead (
    event_id uuid PRIMARY KEY,
    xid bigint NOT NULL
);
CREATE TABLE promotion.measure_passes (
    low_xid bigint NOT NULL,
    high_xid bigint NOT NULL,
    key text NOT NULL,
    low timestamptz NOT NULL
);

-- What `experiments` of an event names: numbers (0, null: unknown), and flaws as bits in the order of core.events'
-- FLAWS. PostgreSQL puts it into the query that calls it.
CREATE FUNCTION promotion.measure_named(experiments jsonb)
RETURNS TABLE (experiment integer, arm integer, flaws integer)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1 AS $$
    SELECT coalesce(m.id, 0), a.id,
           CASE WHEN i.named = 'null' THEN 16
                WHEN i.experiment_id IS NULL OR i.variant_id IS NULL THEN 32
                WHEN a.id IS NULL THEN 64 ELSE 0 END
      FROM (SELECT x.named,
                   CASE WHEN x.named ->> 'experiment_id' ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'
                        THEN CAST(x.named ->> 'experiment_id' AS uuid) END AS experiment_id,
                   CASE WHEN x.named ->> 'variant_id' ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'
                        THEN CAST(x.named ->> 'variant_id' AS uuid) END AS variant_id
              FROM jsonb_array_elements(
                   CASE WHEN $1 IS NULL OR $1 IN (jsonb '[]', jsonb 'null') THEN jsonb '[null]'
                        WHEN jsonb_typeof($1) = 'array' THEN $1 ELSE jsonb '[0]' END) x (named)
             WHERE length(jsonb_typeof(x.named)) BETWEEN 1 AND 10 -- always; it tells the planner that there are few
            OFFSET 0) i
      LEFT JOIN promotion.measure_experiments m ON m.experiment_id = i.experiment_id
      LEFT JOIN (promotion.measure_arms a JOIN exp.variants v ON v.id = a.variant_id)
             ON a.variant_id = i.variant_id AND a.experiment = m.id
    OFFSET 0
$$;
"""

# Only on events that the bot created itself: an adopted table keeps the indexes it has, and new events are then
# found by `timestamp`.
IS_OURS = "SELECT to_regprocedure('exp.check_shares()') IS NOT NULL"
INDEX = "CREATE INDEX IF NOT EXISTS events_created_at_idx ON exp.events (created_at)"


def upgrade() -> None:
    op.execute(SCHEMA)
    if op.get_bind().scalar(text(IS_OURS)):
        op.execute(INDEX)
