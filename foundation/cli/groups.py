"""The commands that both programs have: of the database schema, and of the users."""

from foundation.cli.lazy import Lazy, LazyGroup

SCHEMA_COMMANDS = {
    "upgrade": Lazy("foundation.cli.db_commands:upgrade"),
    "check": Lazy("foundation.cli.db_commands:check"),
}

users_group = LazyGroup(
    "users",
    {
        "add": Lazy("foundation.pages.user_commands:add"),
        "list": Lazy("foundation.pages.user_commands:list_"),
        "set-password": Lazy("foundation.pages.user_commands:set_password"),
        "remove": Lazy("foundation.pages.user_commands:remove"),
    },
    help="Manage the users who can sign in to the pages.",
)
