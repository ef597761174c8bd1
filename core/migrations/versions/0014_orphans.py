"""An effect outlives its request: what was decided before an experiment was deleted still reaches the registry.
What is rare in a long record is found without reading it all.

Revision ID: 0014
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

SCHEMA = """
ALTER TABLE promotion.effects
    DROP CONSTRAINT effects_request_id_fkey,
    ADD CONSTRAINT effects_request_id_fkey FOREIGN KEY (request_id) REFERENCES promotion.requests (id)
        ON DELETE SET NULL;
CREATE INDEX effects_request_idx ON promotion.effects (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX ledger_rare_idx ON promotion.ledger (id) WHERE action IN ('policy', 'take over');
CREATE INDEX recommendations_experiment_idx ON promotion.recommendations (experiment_id);
"""


def upgrade() -> None:
    op.execute(SCHEMA)
