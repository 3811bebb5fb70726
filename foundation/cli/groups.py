"""The commands that both programs have: of the database schema, and of the users."""

from foundation.cli.lazy import Lazy, LazyGroup

SCHEMA_COMMANDS = {
    "upgrade": Lazy(
        "foundation.cli.db_commands:upgrade",
        "Upgrade the database schema; existing data is kept.",
    ),
    "check": Lazy(
        "foundation.cli.db_commands:check",
        "Check that the database schema is the one that this program needs.",
    ),
}

users_group = LazyGroup(
    "users",
    {
        "add": Lazy(
            "foundation.pages.user_commands:add",
            "Add the user NAME; the password is read from a prompt or standard input.",
        ),
        "list": Lazy("foundation.pages.user_commands:list_", "List the users."),
        "set-password": Lazy(
            "foundation.pages.user_commands:set_password",
            "Set a new password for NAME, who is signed out everywhere.",
        ),
        "remove": Lazy(
            "foundation.pages.user_commands:remove",
            "Remove the user NAME, who is signed out everywhere.",
        ),
    },
    help="Manage the users who can sign in to the pages.",
)
