"""The record as a chain: what each row rests on, and seals that give every row its place and the hash before it.

Revision ID: 0006
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = """
ALTER TABLE promotion.ledger ADD COLUMN evidence jsonb;

-- The whole verdict as text, to compare one that is computed again byte for byte; none before this migration.
ALTER TABLE promotion.recommendations ADD COLUMN decision text;

-- Each row of the ledger once, in the order in which they were sealed. A hash is followed by at most one other, so the
-- chain cannot fork. No foreign key: a seal has to stand, and tell, where somebody made its row go.
CREATE TABLE promotion.seals (
    number bigint PRIMARY KEY CHECK (number > 0),
    ledger_id bigint NOT NULL UNIQUE,
    content text NOT NULL CHECK (content ~ '^[0-9a-f]{64}$'),
    previous text NOT NULL UNIQUE CHECK (previous ~ '^[0-9a-f]{64}$'),
    hash text NOT NULL UNIQUE CHECK (hash ~ '^[0-9a-f]{64}$'),
    sealed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER seals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON promotion.seals
    FOR EACH STATEMENT EXECUTE FUNCTION promotion.refuse_change();
"""


def upgrade() -> None:
    op.execute(SCHEMA)
