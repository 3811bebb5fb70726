"""Sources and secrets, the inbox, the registry, the gradebook, the runs of the sync; users."""

import sqlalchemy as sa
from alembic import op

revision = "r0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("channel", sa.String(length=10), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("object_kind", sa.String(length=20), nullable=False),
        sa.Column("object_id", sa.String(length=255), nullable=False),
        sa.Column("object_count", sa.Integer(), nullable=False),
        sa.Column("part_of", sa.Integer(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
    )
    for columns in (
        ["recorded_at", "id"],
        ["object_id", "recorded_at", "id"],
    ):
        op.create_index(op.f(f"ix_audit_{'_'.join(columns)}"), "audit", columns)
    for name, columns, condition in (
        ("ix_audit_listed", ["recorded_at", "id"], "part_of IS NULL"),
        ("ix_audit_by_actor", ["actor", "recorded_at", "id"], "part_of IS NULL"),
        ("ix_audit_parts", ["part_of", "recorded_at", "id"], "part_of IS NOT NULL"),
    ):
        where = sa.text(condition)
        op.create_index(name, "audit", columns, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("labels", sa.String(length=120), nullable=False),
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("amount", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", "labels", "shard", name=op.f("pk_counters")),
    )
    op.create_table(
        "ended_sessions",
        sa.Column("session_id", sa.String(length=64), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_ended_sessions")),
    )
    op.create_index(op.f("ix_ended_sessions_ends_at"), "ended_sessions", ["ends_at"])
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("holder", sa.String(length=255), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("synced", sa.Integer(), nullable=False),
        sa.Column("unchanged", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("deleted", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("scores_added", sa.Integer(), nullable=True),
        sa.Column("scores_changed", sa.Integer(), nullable=True),
        sa.Column("scores_unchanged", sa.Integer(), nullable=True),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("statements", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("partial", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("unattended", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("stopped", sa.Text(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "sign_in_failures",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name_sha256", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_in_failures")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_sign_in_failures_address"), "sign_in_failures", ["address"])
    op.create_index(op.f("ix_sign_in_failures_at"), "sign_in_failures", ["at"])
    op.create_index(op.f("ix_sign_in_failures_name_sha256"), "sign_in_failures", ["name_sha256"])
    op.create_table(
        "sources",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("encrypted_site_token", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_seconds", sa.Integer(), nullable=True),
        sa.Column("listening_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
        sa.UniqueConstraint("name", name=op.f("uq_sources_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "sync_lease",
        sa.Column("name", sa.String(length=20), nullable=False),
        sa.Column("holder", sa.String(length=255), nullable=True),
        sa.Column("token", sa.String(length=32), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sync_lease")),
    )
    op.create_table(
        "sync_pause",
        sa.Column("name", sa.String(length=20), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("paused_by", sa.String(length=255), nullable=False),
        sa.Column("resumed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sync_pause")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("name_key", sa.String(length=400), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("password_changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name_key", name=op.f("uq_users_name_key")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "entries",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column(
            "course_id",
            sa.String(length=255).with_variant(sa.String(length=255, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("encrypted_token", sa.Text(), nullable=True),
        sa.Column("stored_token_id", sa.String(length=64), nullable=True),
        sa.Column("deleted_version", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("restored_version", sa.BigInteger(), nullable=True),
        sa.Column("restored_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("announced_version", sa.BigInteger(), nullable=True),
        sa.Column("announced_token_id", sa.String(length=64), nullable=True),
        sa.Column("announced_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("announced_valid_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rejected_token_id", sa.String(length=64), nullable=True),
        sa.Column("rejected_reason", sa.Text(), nullable=True),
        sa.Column("rejected_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("accepted_token_id", sa.String(length=64), nullable=True),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claim_failed_token_id", sa.String(length=64), nullable=True),
        sa.Column("claim_failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claim_failure", sa.String(length=10), nullable=True),
        sa.Column("claim_failure_detail", sa.Text(), nullable=True),
        sa.Column("gradebook_course", sa.String(length=20), nullable=True),
        sa.Column("gradebook_activity", sa.String(length=20), nullable=True),
        sa.Column("etag", sa.String(length=255), nullable=True),
        sa.Column("synced_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name=op.f("fk_entries_source_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entries")),
        sa.UniqueConstraint("source_id", "course_id", name=op.f("uq_entries_source_id_course_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_entries_active",
        "entries",
        ["course_id", "source_id"],
        sqlite_where=sa.text(
            "added_at IS NOT NULL AND NOT (deleted_version IS NOT NULL AND deleted_at IS NOT NULL) AND NOT (announced_version IS NOT NULL AND announced_at IS NOT NULL AND (stored_token_id IS NULL OR announced_token_id != stored_token_id) AND NOT (stored_token_id IS NOT NULL AND accepted_token_id IS NOT NULL AND accepted_at IS NOT NULL AND accepted_token_id = stored_token_id AND accepted_at > coalesce(announced_valid_until, announced_at)) AND announced_valid_until IS NULL OR stored_token_id IS NOT NULL AND rejected_token_id IS NOT NULL AND rejected_at IS NOT NULL AND rejected_token_id = stored_token_id AND NOT (announced_version IS NOT NULL AND announced_at IS NOT NULL AND announced_token_id = rejected_token_id AND announced_at > rejected_at) AND NOT (stored_token_id IS NOT NULL AND accepted_token_id IS NOT NULL AND accepted_at IS NOT NULL AND accepted_token_id = stored_token_id AND accepted_at > rejected_at))"
        ),
        postgresql_where=sa.text(
            "added_at IS NOT NULL AND NOT (deleted_version IS NOT NULL AND deleted_at IS NOT NULL) AND NOT (announced_version IS NOT NULL AND announced_at IS NOT NULL AND (stored_token_id IS NULL OR announced_token_id != stored_token_id) AND NOT (stored_token_id IS NOT NULL AND accepted_token_id IS NOT NULL AND accepted_at IS NOT NULL AND accepted_token_id = stored_token_id AND accepted_at > coalesce(announced_valid_until, announced_at)) AND announced_valid_until IS NULL OR stored_token_id IS NOT NULL AND rejected_token_id IS NOT NULL AND rejected_at IS NOT NULL AND rejected_token_id = stored_token_id AND NOT (announced_version IS NOT NULL AND announced_at IS NOT NULL AND announced_token_id = rejected_token_id AND announced_at > rejected_at) AND NOT (stored_token_id IS NOT NULL AND accepted_token_id IS NOT NULL AND accepted_at IS NOT NULL AND accepted_token_id = stored_token_id AND accepted_at > rejected_at))"
        ),
    )
    op.create_index(
        "ix_entries_course_deleted",
        "entries",
        ["course_id", "source_id"],
        sqlite_where=sa.text(
            "added_at IS NOT NULL AND deleted_version IS NOT NULL AND deleted_at IS NOT NULL"
        ),
        postgresql_where=sa.text(
            "added_at IS NOT NULL AND deleted_version IS NOT NULL AND deleted_at IS NOT NULL"
        ),
    )
    op.create_index(
        op.f("ix_entries_course_id_source_id_added_at"),
        "entries",
        ["course_id", "source_id", "added_at"],
    )
    op.create_index(
        "ix_entries_token_invalid",
        "entries",
        ["course_id", "source_id"],
        sqlite_where=sa.text(
            "added_at IS NOT NULL AND NOT (deleted_version IS NOT NULL AND deleted_at IS NOT NULL) AND (announced_version IS NOT NULL AND announced_at IS NOT NULL AND (stored_token_id IS NULL OR announced_token_id != stored_token_id) AND NOT (stored_token_id IS NOT NULL AND accepted_token_id IS NOT NULL AND accepted_at IS NOT NULL AND accepted_token_id = stored_token_id AND accepted_at > coalesce(announced_valid_until, announced_at)) OR stored_token_id IS NOT NULL AND rejected_token_id IS NOT NULL AND rejected_at IS NOT NULL AND rejected_token_id = stored_token_id AND NOT (announced_version IS NOT NULL AND announced_at IS NOT NULL AND announced_token_id = rejected_token_id AND announced_at > rejected_at) AND NOT (stored_token_id IS NOT NULL AND accepted_token_id IS NOT NULL AND accepted_at IS NOT NULL AND accepted_token_id = stored_token_id AND accepted_at > rejected_at))"
        ),
        postgresql_where=sa.text(
            "added_at IS NOT NULL AND NOT (deleted_version IS NOT NULL AND deleted_at IS NOT NULL) AND (announced_version IS NOT NULL AND announced_at IS NOT NULL AND (stored_token_id IS NULL OR announced_token_id != stored_token_id) AND NOT (stored_token_id IS NOT NULL AND accepted_token_id IS NOT NULL AND accepted_at IS NOT NULL AND accepted_token_id = stored_token_id AND accepted_at > coalesce(announced_valid_until, announced_at)) OR stored_token_id IS NOT NULL AND rejected_token_id IS NOT NULL AND rejected_at IS NOT NULL AND rejected_token_id = stored_token_id AND NOT (announced_version IS NOT NULL AND announced_at IS NOT NULL AND announced_token_id = rejected_token_id AND announced_at > rejected_at) AND NOT (stored_token_id IS NOT NULL AND accepted_token_id IS NOT NULL AND accepted_at IS NOT NULL AND accepted_token_id = stored_token_id AND accepted_at > rejected_at))"
        ),
    )
    op.create_table(
        "inbox",
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("webhook_id", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=255), nullable=False),
        sa.Column("course_id", sa.String(length=255), nullable=True),
        sa.Column("course_version", sa.BigInteger(), nullable=True),
        sa.Column("body_sha256", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name=op.f("fk_inbox_source_id")),
        sa.PrimaryKeyConstraint("source_id", "webhook_id", name=op.f("pk_inbox")),
    )
    op.create_index(
        op.f("ix_inbox_course_id_received_at_source_id_webhook_id"),
        "inbox",
        ["course_id", "received_at", "source_id", "webhook_id"],
    )
    op.create_index(
        op.f("ix_inbox_outcome_received_at_source_id_webhook_id"),
        "inbox",
        ["outcome", "received_at", "source_id", "webhook_id"],
    )
    op.create_index(
        op.f("ix_inbox_received_at_source_id_webhook_id"),
        "inbox",
        ["received_at", "source_id", "webhook_id"],
    )
    op.create_index(
        op.f("ix_inbox_source_id_received_at_webhook_id"),
        "inbox",
        ["source_id", "received_at", "webhook_id"],
    )
    op.create_table(
        "run_courses",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=100), nullable=False),
        sa.Column("course_id", sa.String(length=255), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_step", sa.Text(), nullable=True),
        sa.Column("action", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_courses_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_courses")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_run_courses_course_id_source_id"), "run_courses", ["course_id", "source", "id"]
    )
    op.create_index(
        op.f("ix_run_courses_run_id_outcome_source_id"),
        "run_courses",
        ["run_id", "outcome", "source", "id"],
    )
    op.create_table(
        "run_people",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=100), nullable=False),
        sa.Column("course_id", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=True),
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_people_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_people")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_run_people_run_id_source_course_id_id"),
        "run_people",
        ["run_id", "source", "course_id", "id"],
    )
    op.create_table(
        "source_refusals",
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.id"], name=op.f("fk_source_refusals_source_id")
        ),
        sa.PrimaryKeyConstraint("source_id", name=op.f("pk_source_refusals")),
    )
    op.create_table(
        "source_secrets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("encrypted", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.id"], name=op.f("fk_source_secrets_source_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_secrets")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_source_secrets_source_id"), "source_secrets", ["source_id"])
    op.create_table(
        "history",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=20), nullable=False),
        sa.Column("actor_name", sa.String(length=255), nullable=False),
        sa.Column("event", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], name=op.f("fk_history_entry_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_history")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_history_entry_id"), "history", ["entry_id"])
    found_by_sync = sa.text(
        "actor = 'sync' AND event IN ('course.deleted', 'course.restored', 'token.regenerated')"
    )
    op.create_index(
        "ix_history_found_by_sync",
        "history",
        ["actor", "at"],
        sqlite_where=found_by_sync,
        postgresql_where=found_by_sync,
    )
    op.create_table(
        "scores",
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("score_given", sa.String(length=40), nullable=True),
        sa.Column("score_maximum", sa.String(length=40), nullable=False),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("activity_progress", sa.String(length=20), nullable=False),
        sa.Column("grading_progress", sa.String(length=20), nullable=False),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], name=op.f("fk_scores_entry_id")),
        sa.PrimaryKeyConstraint("entry_id", "user_id", name=op.f("pk_scores")),
    )
