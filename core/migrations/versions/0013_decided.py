"""What is counted of closed requests is read from an index alone.

Revision ID: 0013
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE INDEX requests_decided_idx ON promotion.requests (action, state) INCLUDE (created_at, decided_at, signature_id)
    WHERE state <> 'open';
"""


def upgrade() -> None:
    op.execute(SCHEMA)
