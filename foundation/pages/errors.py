"""The refusals of sign-in and user management."""

from foundation.errors import Advice, Refusal
from foundation.web.errors import RequestMalformedError


class NameInvalidError(Refusal):
    """The text cannot be a user's name."""

    advice = Advice("Use 1 to 100 visible characters without spaces at the start or end.")


class PasswordWeakError(Refusal):
    """The password is too easy to guess, or too long."""

    advice = Advice("Choose 12 to 1000 characters, for example a few unrelated words.")


class UserExistsError(Refusal):
    """A user with this name exists; names are case-insensitive."""

    advice = Advice(
        "Choose another name, or give this user a new password.", "users set-password", ("NAME",)
    )


class UserUnknownError(Refusal):
    """No user has this name."""

    advice = Advice("Check the name.", "users list")


class SignInRequiredError(Refusal):
    """The page requires sign-in."""

    advice = Advice("Sign in.")


class TooManyAttemptsError(Refusal):
    """Too many sign-ins failed for a name or from an address."""

    advice = Advice(
        "Wait until then and try again. If you forgot your password, ask an operator of this "
        "service to set a new one.",
        "users set-password",
        ("NAME",),
    )


class FormRefusedError(RequestMalformedError):
    """The form does not come from a page of this session."""

    advice = Advice(
        "Go back, reload the page and send the form again. If it is refused again, check that the "
        "address begins with https:// and that cookies are allowed for it."
    )
