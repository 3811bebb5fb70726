"""What is refused to those who sign in, each with what to do next."""

from foundation.errors import Refusal
from foundation.web.errors import RequestMalformedError


class NameInvalidError(Refusal):
    """The text cannot be a user's name."""

    next_step = "Give a name of 1 to 100 visible characters, without a space at either end."


class PasswordWeakError(Refusal):
    """The password is too easy to guess, or too long."""

    next_step = "Choose 12 to 1000 characters; a few words that nobody would put together are good."


class UserExistsError(Refusal):
    """There is a user of this name, in whatever case it is written."""

    next_step = "Choose another name, or give that user a new password with `users set-password`."


class UserUnknownError(Refusal):
    """There is no user of this name."""

    next_step = "`users list` names those who may sign in; `users add` makes one."


class SignInNeeded(Refusal):
    """The page is for those who are signed in."""

    next_step = "Sign in."


class TooManyAttemptsError(Refusal):
    """Too many sign-ins failed for a name or from an address."""

    next_step = (
        "Wait until then and try again. If you forgot your password, ask who runs this service "
        "to set a new one with `users set-password`."
    )


class FormRefusedError(RequestMalformedError):
    """A form was sent that is not from a page of this session."""

    next_step = (
        "Go back, reload the page and send the form again. If it is refused again, check that the "
        "address begins with https:// and that cookies are allowed for it."
    )
