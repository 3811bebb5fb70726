"""The database of both services: engines, transactions, migrations, pagination, counters."""
