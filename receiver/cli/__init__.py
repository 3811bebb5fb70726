"""The command `receiver`. Each command is imported when it runs."""

from foundation.cli.lazy import LazyGroup
from foundation.cli.program import commands_of, new_program

main = new_program(
    "receiver",
    {
        "sources": LazyGroup(
            "sources",
            commands_of(
                "receiver.cli.sources",
                "add",
                "list",
                "set-url",
                "remove",
                "add-secret",
                "remove-secret",
                "set-site-token",
            ),
            help="Manage the eAssessment sites and the secrets of their webhooks.",
        ),
        "registry": LazyGroup(
            "registry",
            {
                **commands_of(
                    "receiver.cli.registry", "add", "list", "show", "remove", "set-token"
                ),
                **commands_of("receiver.cli.registry_bulk", "export", "import", "set-activity"),
            },
            help="Manage the courses in the grade sync: their status and their tokens.",
        ),
        "inbox": LazyGroup(
            "inbox", commands_of("receiver.cli.inbox", "list"), help="Show the webhooks received."
        ),
        **commands_of("receiver.cli.sync", "sync-grades"),
        "grades": LazyGroup(
            "grades", commands_of("receiver.cli.grades", "forget"), help="Delete stored grades."
        ),
        "runs": LazyGroup(
            "runs",
            commands_of("receiver.cli.runs", "list", "show", "pause", "resume"),
            help="Show past runs of the grade sync; pause and resume its schedule.",
        ),
    },
    help="""ELMS: sources, webhooks, the registry and the grade sync.

    Settings are read from the environment or .env; .env.example explains each one.
    Exit codes: 0 done, 1 refused or failed, 2 usage or settings error, 3 another sync is running,
    4 database unusable.
    """,
)
