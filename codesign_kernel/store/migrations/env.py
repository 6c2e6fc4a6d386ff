"""What Alembic runs: the migrations, on the connection that the store hands over and inside its transaction."""

from alembic import context

from codesign_kernel.store.schema import VERSION_TABLE, Table

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Table.metadata, version_table=VERSION_TABLE
)
with context.begin_transaction():
    context.run_migrations()
