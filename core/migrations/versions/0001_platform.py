"""The platform's `exp` schema, where it is not there yet. An existing table is adopted as it is.

Revision ID: 0001
"""

from alembic import op
from sqlalchemy import text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE IF NOT EXISTS exp.policies (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name varchar(255) NOT NULL UNIQUE,
    description text,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS exp.policy_versions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    policy_id uuid NOT NULL REFERENCES exp.policies (id) ON DELETE CASCADE,
    version integer NOT NULL,
    mlflow_model_name varchar(255),
    mlflow_model_version varchar(50),
    config_defaults jsonb DEFAULT '{}',
    status varchar(50) NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'deprecated', 'archived')),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (policy_id, version)
);
CREATE INDEX IF NOT EXISTS policy_versions_model_idx
    ON exp.policy_versions (mlflow_model_name, mlflow_model_version);
CREATE TABLE IF NOT EXISTS exp.experiments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name varchar(255) NOT NULL UNIQUE,
    description text,
    status varchar(50) NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'active', 'paused', 'completed')),
    unit_type varchar(50) NOT NULL DEFAULT 'user' CHECK (unit_type IN ('user', 'household', 'session')),
    start_at timestamptz,
    end_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS exp.variants (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    experiment_id uuid NOT NULL REFERENCES exp.experiments (id) ON DELETE CASCADE,
    name varchar(255) NOT NULL,
    description text,
    allocation numeric(5,4) NOT NULL CHECK (allocation BETWEEN 0 AND 1),
    config jsonb DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (experiment_id, name)
);
CREATE TABLE IF NOT EXISTS exp.assignments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    experiment_id uuid NOT NULL REFERENCES exp.experiments (id),
    unit_type varchar(50) NOT NULL,
    unit_id varchar(255) NOT NULL,
    variant_id uuid NOT NULL REFERENCES exp.variants (id),
    assigned_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (experiment_id, unit_id)
);
CREATE TABLE IF NOT EXISTS exp.events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    event_type varchar(100) NOT NULL,
    unit_type varchar(50) NOT NULL,
    unit_id varchar(255) NOT NULL,
    experiments jsonb DEFAULT '[]',
    context jsonb,
    metrics jsonb,
    payload jsonb,
    timestamp timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS events_event_type_idx ON exp.events (event_type);
CREATE INDEX IF NOT EXISTS events_unit_idx ON exp.events (unit_type, unit_id);
CREATE INDEX IF NOT EXISTS events_timestamp_idx ON exp.events (timestamp);
CREATE INDEX IF NOT EXISTS events_experiments_idx ON exp.events USING gin (experiments);
CREATE TABLE IF NOT EXISTS exp.metric_aggregates (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    experiment_id uuid NOT NULL REFERENCES exp.experiments (id),
    variant_id uuid NOT NULL REFERENCES exp.variants (id),
    metric_name varchar(100) NOT NULL,
    bucket_type varchar(50) NOT NULL CHECK (bucket_type IN ('hourly', 'daily')),
    bucket_start timestamptz NOT NULL,
    count bigint,
    sum numeric(20,6),
    mean numeric(20,6),
    min numeric(20,6),
    max numeric(20,6),
    stddev numeric(20,6),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (experiment_id, variant_id, metric_name, bucket_type, bucket_start)
);
CREATE TABLE IF NOT EXISTS exp.offline_replay_results (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    policy_version_id uuid NOT NULL REFERENCES exp.policy_versions (id),
    dataset_version varchar(255),
    mlflow_run_id varchar(255),
    plan_alignment_score numeric(10,6),
    constraint_respect_score numeric(10,6),
    edit_distance_score numeric(10,6),
    diversity_score numeric(10,6),
    leftovers_score numeric(10,6),
    baseline_version_id uuid REFERENCES exp.policy_versions (id),
    is_better_than_baseline boolean,
    status varchar(50) NOT NULL DEFAULT 'completed' CHECK (status IN ('running', 'completed', 'failed')),
    error_message text,
    created_at timestamptz NOT NULL DEFAULT now()
);
"""

# Only for tables that this migration made: a team's own table keeps the triggers and rules it has.
VIEWS_AND_TRIGGERS = """
CREATE FUNCTION exp.touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now();
    RETURN NEW;
END $$;
CREATE TRIGGER experiments_touch BEFORE UPDATE ON exp.experiments
    FOR EACH ROW EXECUTE FUNCTION exp.touch_updated_at();

CREATE FUNCTION exp.check_shares() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- One function for both tables, so the rows are read as JSON: a record has no field that its table lacks. A
    -- variant that is moved touches two experiments. OLD is null for an insert, NEW for a delete.
    key text := TG_ARGV[0];
    experiment uuid;
    total numeric;
BEGIN
    FOR experiment, total IN
        SELECT e.id, sum(v.allocation)
          FROM exp.variants v JOIN exp.experiments e ON e.id = v.experiment_id
         WHERE e.id IN ((to_jsonb(OLD) ->> key)::uuid, (to_jsonb(NEW) ->> key)::uuid) AND e.status <> 'draft'
         GROUP BY e.id
    LOOP
        IF total <> 1 THEN
            RAISE EXCEPTION 'the shares of experiment % add up to %, not to 1', experiment, total
                USING ERRCODE = 'check_violation', CONSTRAINT = 'variants_shares_sum_to_one';
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
-- Deferred: a change of shares touches several rows, and an experiment in draft is still being put together.
CREATE CONSTRAINT TRIGGER variants_shares_sum_to_one AFTER INSERT OR UPDATE OR DELETE ON exp.variants
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION exp.check_shares('experiment_id');
CREATE CONSTRAINT TRIGGER experiments_shares_sum_to_one AFTER UPDATE OF status ON exp.experiments
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION exp.check_shares('id');

CREATE VIEW exp.v_active_experiments AS
SELECT e.id, e.name, e.status, e.unit_type, e.start_at, e.end_at,
       count(v.id) AS variant_count, coalesce(sum(v.allocation), 0) AS total_allocation
  FROM exp.experiments e LEFT JOIN exp.variants v ON v.experiment_id = e.id
 WHERE e.status = 'active' GROUP BY e.id;

CREATE VIEW exp.v_policy_versions AS
SELECT pv.id, p.name AS policy_name, pv.version, pv.mlflow_model_name, pv.mlflow_model_version,
       pv.config_defaults, pv.status, pv.created_at
  FROM exp.policy_versions pv JOIN exp.policies p ON p.id = pv.policy_id;

CREATE VIEW exp.v_experiment_metrics AS
SELECT e.id AS experiment_id, e.name AS experiment_name, v.id AS variant_id, v.name AS variant_name,
       m.metric_name, m.bucket_type, m.bucket_start, m.count, m.mean, m.min, m.max, m.stddev
  FROM exp.metric_aggregates m
  JOIN exp.experiments e ON e.id = m.experiment_id
  JOIN exp.variants v ON v.id = m.variant_id;
"""


def upgrade() -> None:
    is_fresh = op.get_bind().scalar(text("SELECT to_regclass('exp.variants') IS NULL"))
    if is_fresh:
        op.execute("CREATE SCHEMA IF NOT EXISTS exp")
        op.execute(TABLES)
        op.execute(VIEWS_AND_TRIGGERS)
