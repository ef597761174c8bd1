"""Recommendations: the daily look at each candidate, with the evidence it rests on and what the next one must know.

Revision ID: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCHEMA = """
-- Samples as they were when somebody looked, by the hash of their bytes: a step that is over is kept once.
CREATE TABLE promotion.evidence (
    digest text PRIMARY KEY,
    content bytea NOT NULL
);
ALTER TABLE promotion.evidence ALTER content SET STORAGE EXTERNAL;

-- One daily look a day, and the first alarm of a look in between.
-- No foreign keys to exp: what was recommended stays on record when a team deletes what is theirs.
CREATE TABLE promotion.recommendations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment_id uuid NOT NULL,
    variant_id uuid NOT NULL,
    first_step_id bigint NOT NULL,
    step_id bigint NOT NULL,
    day date NOT NULL,
    is_daily boolean NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    action text NOT NULL CHECK (action IN ('increase', 'promote', 'wait', 'rollback', 'hold')),
    why text NOT NULL,
    terms jsonb NOT NULL,
    look jsonb NOT NULL,
    previous_id bigint REFERENCES promotion.recommendations (id),
    memory jsonb NOT NULL,
    CONSTRAINT one_look_of_a_kind_per_day UNIQUE (variant_id, day, is_daily)
);
CREATE INDEX recommendations_newest_idx ON promotion.recommendations (variant_id, first_step_id, id);
"""


def upgrade() -> None:
    op.execute(SCHEMA)
