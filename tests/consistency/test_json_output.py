"""`--json`: every command prints one shape, as docs/user-guide.md describes it."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from contract.signatures import Secret
from contract.tokens import CourseToken
from tests.consistency.commands import PROGRAMS, every_command
from tests.consistency.test_audit import COMMANDS

CLOSED = "http://127.0.0.1:9"
TOKENS = [CourseToken.generate().reveal() for _ in range(3)]
SECRET = Secret.generate().reveal()
# Each command with `--json`, in an order in which none is refused; the text after `<` is its
# standard input. Those that end with 1 report what has failed.
STORIES = {
    "notifier": """
        init --allow-loopback
        db upgrade
        db check
        db backup backup.db
        db rotate-key
        users add ada < a long password
        users set-password ada < another long password
        users list
        users remove ada
        endpoints add http://127.0.0.1:9/a --name ELMS
        endpoints list
        endpoints correct-url 1 http://127.0.0.1:9/b
        endpoints set-name 1 other
        endpoints set-token-claims 1 on
        endpoints set-event-types 1 course.deleted
        endpoints rotate-secret 1
        endpoints ping 1 # 1
        endpoints check 1 # 1
        trigger course.deleted --endpoint 1 # 1
        courses add CS101 --title Programming
        courses import - --tokens-to tokens.csv < course_id,title\\nCS102,A\\nCS103,B\\n
        courses list --limit 1
        courses show CS101
        courses regenerate-token CS101
        courses regenerate-token CS101 CS102 --tokens-to new.csv --now
        courses announce-token 7 --unknown
        grades import - < course_id,user_id,score_given,score_maximum\\nCS101,u1,1,2\\n
        grades forget --course CS101
        courses delete CS101 CS102 unknown # 1
        courses restore CS101 CS103
        work --once
        deliveries list --limit 1
        deliveries show 1
        deliveries replay 1
        deliveries replay --status pending --dry-run
        endpoints disable 1
        endpoints enable 1
        endpoints remove 1 --yes
        doctor # 1
        db prune --older-than 400d
        audit list --limit 1
    """,
    "receiver": f"""
        init
        db upgrade
        db check
        db backup backup.db
        db rotate-key
        users add ada < a long password
        users set-password ada < another long password
        users list
        users remove ada
        sources add site --url {CLOSED} < {SECRET}
        sources add moodle --url {CLOSED} --kind moodle < {SECRET}
        sources add-secret site < {Secret.generate().reveal()}
        sources list
        sources set-site-token moodle < {"a" * 32}
        sources set-url moodle http://127.0.0.1:9/moodle
        sources remove-secret site 1
        sources remove moodle --yes
        inbox list
        verify - --source site --id msg_1 --timestamp 1795338000 --signature v1,c2lnbmVk < {{}} # 1
        registry add CS101 --source site < {TOKENS[0]}
        registry import - < course_id,token,source\\nCS102,{TOKENS[1]},site\\n
        registry set-token CS101 --source site < {TOKENS[2]}
        registry set-token --from-file - < course_id,source,token\\nCS102,site,{TOKENS[2]}\\n
        registry set-activity CS101 --course 1 --activity 2
        registry list
        registry show CS101
        sync-grades --dry-run
        sync-grades # 1
        runs list --limit 1
        runs show
        runs show --all
        runs show --people
        runs pause
        sync-grades
        runs resume
        grades forget --course CS101
        registry remove CS101
        registry remove --from-file - --yes < course_id,source,token\\nCS102,site,\\nCS109,site,\\n
        registry remove --status active --yes
        doctor # 1
        db prune --older-than 400d
        audit list --limit 1
    """,
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
LIKE_A_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
CODE = re.compile(r"[a-z][a-z0-9_.-]*")
CODES = {
    *("status", "outcome", "reason", "failure", "last_failure", "event_type", "event", "channel"),
    *("kind", "probe", "expected", "finding", "check"),
}
SENTENCES = {"detail", "next_step"}


@pytest.fixture(autouse=True)
def environment(
    clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """An empty folder; the signals of the process are restored afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECEIVER_SYNC_RETRIES", "0")
    monkeypatch.setenv("RECEIVER_ALLOW_LOOPBACK", "true")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def run(program: str, line: str) -> tuple[str, int, Result]:
    """Run a line of a story with `--json`; return it, the expected exit code and the result."""
    line, _, code = line.partition(" # ")
    line, _, stdin = line.partition(" < ")
    result = CliRunner().invoke(
        PROGRAMS[program], [*line.split(), "--json"], input=stdin.replace("\\n", "\n")
    )
    return line, int(code or 0), result


def members(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the members of a document that have no others inside, with their names."""
    if isinstance(value, dict):
        for inner, part in value.items():
            yield from members(inner, part)
    elif isinstance(value, list):
        for part in value:
            yield from members(name, part)
    else:
        yield name, value


def is_well_formed(name: str, value: Any) -> bool:
    """Return whether a member is what its name says: a code, a time, a sentence."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        return False
    if value is None:
        return True
    if name in CODES:
        return isinstance(value, str) and CODE.fullmatch(value) is not None
    if name == "since" or name.endswith(("_at", "_since", "_until")):
        return isinstance(value, str) and TIME.fullmatch(value) is not None
    if name in SENTENCES:
        return isinstance(value, str)
    return name == "body" or not (isinstance(value, str) and LIKE_A_TIME.match(value))


@pytest.mark.parametrize("program", STORIES)
def test_every_document_has_the_same_shape(program: str) -> None:
    for line in filter(None, map(str.strip, STORIES[program].splitlines())):
        command, code, result = run(program, line)
        assert result.exit_code == code, f"{command}: {result.output}"
        document = json.loads(result.stdout)

        assert isinstance(document, dict), command
        assert "type" not in document, f"{command}: only an error has a type"
        odd = [item for item in members("document", document) if not is_well_formed(*item)]
        assert odd == [], command
        if command.startswith(tuple(f"{noun} list" for noun in NOUNS[program])):
            lists = [name for name, value in document.items() if isinstance(value, list)]
            assert (len(lists), "next" in document) == (1, True), command
            assert isinstance(document["next"], str | None), command


NOUNS = {
    program: [name for name in getattr(command, "commands", {}) if name != "db"]
    for program, command in PROGRAMS.items()
}


@pytest.mark.parametrize("program", STORIES)
def test_story_has_every_command_with_json(program: str) -> None:
    commands = {
        " ".join(path.split()[1:])
        for path, command in every_command(PROGRAMS[program], (program,))
        if has_json(command)
    }
    lines = STORIES[program].splitlines()

    assert {one for one in commands if not any(one in line for line in lines)} == set()


def has_json(command: click.Command) -> bool:
    return any("--json" in param.opts for param in command.params)


def test_every_command_that_changes_something_has_json() -> None:
    without = {
        path
        for name, program in PROGRAMS.items()
        for path, command in every_command(program, (name,))
        if COMMANDS.get(path) is not None and not has_json(command)
    }

    assert without == set()


@pytest.mark.parametrize(
    ("line", "code", "problem"),
    [
        pytest.param("courses show none", 1, "urn:problem-type:course-unknown", id="refused"),
        pytest.param("courses show", 2, "urn:problem-type:request-invalid", id="usage"),
        pytest.param("courses shwo", 2, "urn:problem-type:request-invalid", id="no command"),
        pytest.param("endpoints list --never", 2, "urn:problem-type:request-invalid", id="option"),
    ],
)
def test_error_is_the_last_line_of_stderr(line: str, code: int, problem: str) -> None:
    run("notifier", "init")

    _, _, result = run("notifier", line)

    document = json.loads(result.stderr.splitlines()[-1])
    assert (result.exit_code, result.stdout) == (code, "")
    assert (document["type"], document["exit_code"]) == (problem, code)
    assert document["detail"]
    assert document["next_step"]


def test_error_without_settings_is_json() -> None:
    _, _, result = run("notifier", "courses list")

    document = json.loads(result.stderr)
    assert (result.exit_code, document["type"], document["exit_code"]) == (2, "about:blank", 2)
