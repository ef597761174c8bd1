"""Effects say what they come from: the id of the click, command, form or job that put them, as the log has it.

Revision ID: 0012
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE promotion.effects ADD COLUMN origin text")
