"""Automatic returns: nothing acts by itself, but for what an owner has signed for one run of a candidate.

Revision ID: 0010
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SCHEMA = """
-- For a run that has not begun yet there is only the request of its start; variant and step follow when it does.
CREATE TABLE promotion.safety_signatures (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment_id uuid NOT NULL,
    request_id bigint REFERENCES promotion.requests (id) ON DELETE SET NULL,
    variant_id uuid,
    first_step_id bigint,
    minutes integer NOT NULL CHECK (minutes BETWEEN 15 AND 240),
    signed_by text NOT NULL,
    reason text NOT NULL CHECK (reason ~ '[^[:space:]]'),
    at timestamptz NOT NULL DEFAULT now(),
    withdrawn_at timestamptz,
    withdrawn_by text,
    CHECK ((variant_id IS NULL) = (first_step_id IS NULL)),
    CHECK ((withdrawn_at IS NULL) = (withdrawn_by IS NULL))
);
CREATE UNIQUE INDEX one_signature_per_start ON promotion.safety_signatures (request_id) WHERE withdrawn_at IS NULL;
CREATE UNIQUE INDEX one_signature_per_run
    ON promotion.safety_signatures (variant_id, first_step_id) WHERE withdrawn_at IS NULL;

-- `running`: on the card; every other state is the last one, so an alert leads to one automatic return at the most.
CREATE TABLE promotion.countdowns (
    alert_id bigint PRIMARY KEY REFERENCES promotion.alerts (id) ON DELETE CASCADE,
    signature_id bigint NOT NULL REFERENCES promotion.safety_signatures (id),
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'stopped', 'failed', 'done')),
    share_before numeric(5,4) NOT NULL,
    share_after numeric(5,4) NOT NULL,
    mark text NOT NULL,
    returns_at timestamptz NOT NULL,
    drawn_by text NOT NULL,
    ended_at timestamptz,
    ended_by text,
    why text,
    CHECK ((state = 'running') = (ended_at IS NULL)),
    CHECK (state <> 'stopped' OR ended_by IS NOT NULL),
    CHECK (state <> 'failed' OR why IS NOT NULL)
);

ALTER TABLE promotion.alerts
    ADD COLUMN quiet_at timestamptz,
    DROP CONSTRAINT alerts_state_check,
    ADD CONSTRAINT alerts_state_check
        CHECK (state IN ('open', 'confirmed', 'dismissed', 'recovered', 'superseded', 'returned'));

-- A signature stands in place of the approval, for the return of the candidate that it is about and for nothing else:
-- after a countdown that nobody stopped, while its alert is open.
ALTER TABLE promotion.requests
    ADD COLUMN signature_id bigint REFERENCES promotion.safety_signatures (id),
    ADD CHECK (signature_id IS NULL OR action = 'rollback');
CREATE FUNCTION promotion.check_signature() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM promotion.safety_signatures s
          JOIN promotion.countdowns c ON c.signature_id = s.id
          JOIN promotion.alerts a ON a.id = c.alert_id
         WHERE s.id = NEW.signature_id AND s.withdrawn_at IS NULL AND s.signed_by = NEW.requester
           AND s.experiment_id = NEW.experiment_id AND CAST(s.variant_id AS text) = NEW.params ->> 'variant_id'
           AND NEW.params ->> 'scope' = 'previous'
           AND c.state = 'running' AND c.returns_at <= now()
           AND a.state = 'open' AND a.is_critical AND a.whose = 'candidate' AND a.variant_id = s.variant_id)
    THEN
        RAISE EXCEPTION 'request % is applied without the signature it names', NEW.id;
    END IF;
    RETURN NEW;
END $$;
DROP TRIGGER applied_only_with_approvals ON promotion.requests;
CREATE TRIGGER applied_only_with_approvals BEFORE UPDATE OF state ON promotion.requests
    FOR EACH ROW WHEN (NEW.state = 'applied' AND OLD.state <> 'applied' AND NOT NEW.is_glass_broken
                        AND NEW.signature_id IS NULL)
    EXECUTE FUNCTION promotion.check_approvals();
CREATE TRIGGER applied_by_signature_only_as_signed BEFORE UPDATE OF state ON promotion.requests
    FOR EACH ROW WHEN (NEW.state = 'applied' AND OLD.state <> 'applied' AND NEW.signature_id IS NOT NULL)
    EXECUTE FUNCTION promotion.check_signature();
"""


def upgrade() -> None:
    op.execute(SCHEMA)
