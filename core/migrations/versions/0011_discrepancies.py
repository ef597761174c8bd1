"""Discrepancies: what is other than was decided, because others changed it.

Revision ID: 0011
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SCHEMA = """
-- About an experiment, or about the tags and the alias of a registered model.
CREATE TABLE promotion.discrepancies (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment_id uuid,
    mlflow_model_name text,
    kind text NOT NULL CHECK (kind IN ('shares', 'variants', 'status', 'versions', 'tags', 'alias')),
    decided jsonb NOT NULL,
    found jsonb NOT NULL,
    request_id bigint REFERENCES promotion.requests (id) ON DELETE SET NULL,
    edits integer NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'adopted', 'reverted', 'gone')),
    found_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    ended_by text,
    end_reason text,
    CHECK ((experiment_id IS NULL) <> (mlflow_model_name IS NULL)),
    CHECK ((mlflow_model_name IS NOT NULL) = (kind IN ('tags', 'alias'))),
    CHECK ((state = 'open') = (ended_at IS NULL) AND (state = 'open') = (ended_by IS NULL))
);
CREATE UNIQUE INDEX one_open_discrepancy
    ON promotion.discrepancies (COALESCE(experiment_id::text, mlflow_model_name), kind) WHERE state = 'open';

-- Shares that others set and somebody adopted are decided from then on.
ALTER TABLE promotion.allocation_steps DROP CONSTRAINT allocation_steps_source_check;
ALTER TABLE promotion.allocation_steps ADD CONSTRAINT allocation_steps_source_check
    CHECK (source IN ('bot', 'noticed', 'reconstructed', 'adopted'));
"""


def upgrade() -> None:
    op.execute(SCHEMA)
