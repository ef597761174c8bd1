"""Breaking the glass: a change without its approvals, where the row says who did it and why, and it is on record.

Revision ID: 0009
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SCHEMA = """
ALTER TABLE promotion.requests
    ADD COLUMN is_glass_broken boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT broken_glass_says_who_and_why CHECK (NOT is_glass_broken OR (
        state = 'applied' AND action <> 'rollback'
        AND coalesce(decided_by, '') <> '' AND coalesce(decision_reason, '') ~ '[^[:space:]]'));

CREATE FUNCTION promotion.check_broken_glass() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM promotion.ledger l
         WHERE l.request_id = NEW.id AND l.action = 'break glass'
           AND l.actor = NEW.decided_by AND l.reason = NEW.decision_reason)
    THEN
        RAISE EXCEPTION 'request % is applied with broken glass that is not on record', NEW.id;
    END IF;
    RETURN NEW;
END $$;

DROP TRIGGER applied_only_with_approvals ON promotion.requests;
CREATE TRIGGER applied_only_with_approvals BEFORE UPDATE OF state ON promotion.requests
    FOR EACH ROW WHEN (NEW.state = 'applied' AND OLD.state <> 'applied' AND NOT NEW.is_glass_broken)
    EXECUTE FUNCTION promotion.check_approvals();
CREATE TRIGGER broken_glass_is_on_record BEFORE UPDATE ON promotion.requests
    FOR EACH ROW WHEN (NEW.is_glass_broken) EXECUTE FUNCTION promotion.check_broken_glass();
"""


def upgrade() -> None:
    op.execute(SCHEMA)
