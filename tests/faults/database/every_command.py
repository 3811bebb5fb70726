"""Every command of both programs, with arguments that it accepts."""

from collections.abc import Callable
from dataclasses import dataclass

import click

from contract.signatures import Secret
from contract.tokens import CourseToken
from notifier.cli import main as notifier
from receiver.cli import main as receiver

COURSE = "CS101-2026"
SITE = "eassessment"
MOODLE = "moodle"
USER = "grace"
PROGRAMS: dict[str, click.Group] = {"notifier": notifier, "receiver": receiver}


@dataclass(frozen=True)
class Given:
    """The arguments and the input of a command, and whether it writes."""

    arguments: str = ""
    stdin: Callable[[], str] = str
    writes: bool = False


def _token() -> str:
    return CourseToken.generate().reveal()


def _moodle_token() -> str:
    return "0123456789abcdef" * 2


def _file() -> str:
    return f"source,course_id,token\n{SITE},CS103,{_token()}\n"


def _password() -> str:
    return "correct horse battery"


def _secret() -> str:
    return Secret.generate().reveal()


EVERY = {
    "notifier db upgrade": Given(),
    "notifier db check": Given(),
    "notifier db rotate-key": Given(writes=True),
    "notifier db prune": Given("--older-than 400d", writes=True),
    "notifier serve": Given(),
    "notifier work": Given("--once"),
    "notifier courses add": Given("CS102 --title Algorithms", writes=True),
    "notifier courses list": Given(),
    "notifier courses show": Given(COURSE),
    "notifier courses delete": Given(COURSE, writes=True),
    "notifier courses regenerate-token": Given(COURSE, writes=True),
    "notifier courses announce-token": Given("7 --unknown", writes=True),
    "notifier grades import": Given("grades.csv", writes=True),
    "notifier endpoints add": Given("https://other.example/webhooks", writes=True),
    "notifier endpoints list": Given(),
    "notifier endpoints disable": Given("1", writes=True),
    "notifier endpoints set-event-types": Given("1 course.deleted", writes=True),
    "notifier endpoints enable": Given("2", writes=True),
    "notifier endpoints correct-url": Given("2 https://right.example/webhooks", writes=True),
    "notifier endpoints rotate-secret": Given("1", writes=True),
    "notifier endpoints ping": Given("1"),
    "notifier deliveries list": Given(),
    "notifier deliveries show": Given("1"),
    "notifier deliveries replay": Given("1", writes=True),
    "notifier users add": Given("ada", stdin=_password, writes=True),
    "notifier users list": Given(),
    "notifier users set-password": Given(USER, stdin=_password, writes=True),
    "notifier users remove": Given(USER, writes=True),
    "notifier doctor": Given(),
    "receiver db upgrade": Given(),
    "receiver db check": Given(),
    "receiver db rotate-key": Given(writes=True),
    "receiver db prune": Given("--older-than 400d", writes=True),
    "receiver serve": Given(),
    "receiver sources add": Given("other --url https://e.example", stdin=_secret, writes=True),
    "receiver sources list": Given(),
    "receiver sources add-secret": Given(SITE, stdin=_secret, writes=True),
    "receiver sources remove-secret": Given(f"{SITE} 1", writes=True),
    "receiver sources set-site-token": Given(MOODLE, stdin=_moodle_token, writes=True),
    "receiver registry add": Given(f"CS102 --source {SITE}", stdin=_token, writes=True),
    "receiver registry list": Given(),
    "receiver registry show": Given(COURSE),
    "receiver registry remove": Given(f"{COURSE} --source {SITE}", writes=True),
    "receiver registry set-token": Given(f"{COURSE} --source {SITE}", stdin=_token, writes=True),
    "receiver sync-grades": Given(writes=True),
    "receiver registry export": Given(),
    "receiver registry import": Given("-", stdin=_file, writes=True),
    "receiver registry set-activity": Given(
        f"{COURSE} --source {SITE} --course 4 --activity 12", writes=True
    ),
    "receiver runs list": Given(),
    "receiver runs show": Given("1"),
    "receiver users add": Given("ada", stdin=_password, writes=True),
    "receiver users list": Given(),
    "receiver users set-password": Given(USER, stdin=_password, writes=True),
    "receiver users remove": Given(USER, writes=True),
    "receiver doctor": Given(),
}
WRITING = [words for words, given in EVERY.items() if given.writes]
DOCTORS = ("notifier doctor", "receiver doctor")
