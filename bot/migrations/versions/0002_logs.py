"""Imported conversation logs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of logs."""
    op.create_table(
        "logs",
        sa.Column("digest", sa.String(24), primary_key=True),
        sa.Column("conversation_id", sa.String(255), nullable=False),
        sa.Column("customer_id", sa.String(255)),
        sa.Column("created_at", sa.DateTime(timezone=True)),
        sa.Column("imported_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("file", sa.String(255), nullable=False),
        sa.Column("conversation", sa.JSON, nullable=False),
    )
    op.create_index("ix_logs_conversation_id", "logs", ["conversation_id"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("logs")
