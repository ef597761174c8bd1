"""Freezes: nothing gives a candidate more traffic until somebody ends them.

Revision ID: 0008
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE TABLE promotion.freezes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment_id uuid,
    frozen_by text NOT NULL,
    reason text NOT NULL CHECK (reason ~ '[^[:space:]]'),
    at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    ended_by text,
    CHECK ((ended_at IS NULL) = (ended_by IS NULL))
);
-- One that is open per experiment, and one for all of them (no experiment).
CREATE UNIQUE INDEX one_open_freeze
    ON promotion.freezes (COALESCE(experiment_id, '00000000-0000-0000-0000-000000000000')) WHERE ended_at IS NULL;

-- Windows are configuration, which the database does not know; what somebody froze it refuses itself.
CREATE FUNCTION promotion.check_not_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM promotion.freezes f
         WHERE f.ended_at IS NULL AND (f.experiment_id IS NULL OR f.experiment_id = NEW.experiment_id))
    THEN
        RAISE EXCEPTION 'request % is applied while its experiment is frozen', NEW.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'nothing_moves_on_while_frozen';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER applied_only_while_not_frozen BEFORE UPDATE OF state ON promotion.requests
    FOR EACH ROW WHEN (
        NEW.state = 'applied' AND OLD.state <> 'applied' AND NEW.action IN ('start', 'increase', 'promote'))
    EXECUTE FUNCTION promotion.check_not_frozen();
"""


def upgrade() -> None:
    op.execute(SCHEMA)
