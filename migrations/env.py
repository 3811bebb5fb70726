"""What Alembic runs: the connection and the tables come from the service that calls it."""

from alembic import context

# The service opens the transaction and commits it. SQLite can roll DDL back as PostgreSQL does,
# so a migration that is killed leaves nothing behind and can be run again.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes["metadata"],
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
