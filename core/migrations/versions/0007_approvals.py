"""Approvals that mean something: how many a request takes, what each was given for, and until when.

Revision ID: 0007
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SCHEMA = """
-- `shown` and `mark` are what an approval is bound to. Requests that are open now get an empty mark: their cards are
-- drawn anew before anybody decides on them.
ALTER TABLE promotion.requests
    ADD COLUMN needed integer NOT NULL DEFAULT 1 CHECK (needed >= 1),
    ADD COLUMN shown jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN mark text NOT NULL DEFAULT '',
    ADD COLUMN drawn_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN expires_at timestamptz NOT NULL DEFAULT now() + interval '24 hours',
    ADD CHECK (action <> 'rollback' OR needed = 1),
    DROP CONSTRAINT requests_state_check,
    ADD CONSTRAINT requests_state_check
        CHECK (state IN ('open', 'applied', 'rejected', 'withdrawn', 'superseded', 'expired'));
UPDATE promotion.requests SET drawn_at = created_at, expires_at = created_at + interval '24 hours';
CREATE INDEX requests_open_idx ON promotion.requests (expires_at) WHERE state = 'open';

-- One approval per person and drawing. `lapsed`: whoever gave it is no approver any more.
ALTER TABLE promotion.approvals
    ADD COLUMN mark text NOT NULL DEFAULT '',
    DROP CONSTRAINT approvals_pkey,
    ADD PRIMARY KEY (request_id, person, mark),
    DROP CONSTRAINT approvals_decision_check,
    ADD CONSTRAINT approvals_decision_check CHECK (decision IN ('approve', 'reject', 'lapsed'));

CREATE FUNCTION promotion.check_approvals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.needed > (
        SELECT count(*) FROM promotion.approvals a
         WHERE a.request_id = NEW.id AND a.mark = NEW.mark AND a.decision = 'approve'
           AND (a.person <> NEW.requester OR NEW.action = 'rollback'))
    THEN
        RAISE EXCEPTION 'request % has not the approvals it takes', NEW.id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER applied_only_with_approvals BEFORE UPDATE OF state ON promotion.requests
    FOR EACH ROW WHEN (NEW.state = 'applied' AND OLD.state <> 'applied') EXECUTE FUNCTION promotion.check_approvals();
"""


def upgrade() -> None:
    op.execute(SCHEMA)
