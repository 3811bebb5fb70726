"""A Moodle on loopback: its web services and its event webhooks, as a real one has them."""

import json
import secrets
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

WEB_SERVICES, RESET_TOKEN, WORKFLOW = (
    "/webservice/rest/server.php",
    "/user/managetoken.php",
    "/admin/tool/trigger/edit.php",
)
GRADES, SITE_INFO, COURSES, DELETE = (
    "gradereport_user_get_grade_items",
    "core_webservice_get_site_info",
    "core_course_get_courses",
    "core_course_delete_courses",
)

Form = dict[str, str]


class MoodleError(Exception):
    """A failure, to which a Moodle responds with 200 and an error object."""

    def __init__(self, exception: str, errorcode: str, message: str) -> None:
        super().__init__(message)
        self.errorcode = errorcode
        self.document = {"exception": exception, "errorcode": errorcode, "message": message}


@dataclass
class Site:
    """The courses by number, and the course of each token; "" for the whole site."""

    courses: dict[str, dict[str, Any]]
    tokens: dict[str, str]
    workflow: dict[str, str] = field(default_factory=dict)

    def call(self, form: Form) -> Any:
        """Return the result of a function, or raise MoodleError."""
        course = self._bearer(form.get("wstoken", ""))
        function = self._functions().get(form.get("wsfunction", ""))
        if function is None:
            raise _missing("external_functions")
        return function(form, course)

    def reset(self, course: str) -> str:
        """Return a new token of a course; the old one becomes invalid."""
        self.tokens = {token: one for token, one in self.tokens.items() if one != course}
        token = secrets.token_hex(16)
        self.tokens[token] = course
        return token

    def _functions(self) -> dict[str, Callable[[Form, str], Any]]:
        return {
            GRADES: self._grades,
            SITE_INFO: self._site_info,
            COURSES: self._courses,
            DELETE: self._delete,
        }

    def _bearer(self, token: str) -> str:
        course = self.tokens.get(token)
        if course is None:
            raise MoodleError("moodle_exception", "invalidtoken", "Invalid token - token not found")
        if course and course not in self.courses:
            raise _missing("context")
        return course

    def _grades(self, form: Form, course: str) -> Any:
        number = form["courseid"]
        if number not in self.courses:
            raise _missing("course")
        if course not in ("", number):
            raise MoodleError(
                "core_external\\restricted_context_exception",
                "restrictedcontextexception",
                "Sorry, execution of external function violates context restriction.",
            )
        grades = self.courses[number]["grades"].items()
        users = [_user(place, *one) for place, one in enumerate(grades, start=4)]
        return {"usergrades": users, "warnings": []}

    def _site_info(self, _form: Form, _course: str) -> Any:
        return {"sitename": "Moodle", "functions": [{"name": name} for name in self._functions()]}

    def _courses(self, form: Form, _course: str) -> Any:
        there = [number for number in _numbers(form) if number in self.courses]
        return [{"id": int(n), "shortname": self.courses[n]["shortname"]} for n in there]

    def _delete(self, form: Form, _course: str) -> Any:
        for number in _numbers(form):
            gone = self.courses.pop(number)
            if self.workflow:
                threading.Thread(
                    target=self._post_deletion, args=(number, gone["shortname"])
                ).start()
        return {"warnings": []}

    def _post_deletion(self, number: str, shortname: str) -> None:
        """Post a deletion as tool_trigger's step *HTTP Post* does: every value is text."""
        event = {
            "shortname": shortname,
            "eventname": "\\core\\event\\course_deleted",
            "objectid": number,
            "timecreated": str(int(time.time())),
        }
        headers = {"Content-Type": "application/json", "X-Api-Key": self.workflow["secret"]}
        request = urllib.request.Request(  # noqa: S310 - our own http address
            self.workflow["url"], json.dumps(event).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            _log("event posted", course_id=number, status=answer.status)


def _user(user_id: int, id_number: str, points: float | None) -> dict[str, Any]:
    total = {
        "itemtype": "course",
        "graderaw": points,
        "gradedategraded": None if points is None else 1795336167,
        "gradedatesubmitted": None,
        "grademin": 0,
        "grademax": 100,
        "feedback": "",
    }
    return {"userid": user_id, "useridnumber": id_number, "gradeitems": [total]}


def _numbers(form: Form) -> list[str]:
    return [value for name, value in form.items() if name.endswith("]")]


def _missing(table: str) -> MoodleError:
    message = f"Can't find data record in database table {table}."
    return MoodleError("dml_missing_record_exception", "invalidrecord", message)


def _log(event: str, **facts: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def serve(site: Site, port: int) -> None:
    """Serve on a loopback port until stopped; each function call is a line of the log."""
    pages: dict[str, Callable[[Form], Any]] = {
        WEB_SERVICES: lambda form: _called(site, form),
        RESET_TOKEN: lambda form: site.reset(form["course"]),
        WORKFLOW: site.workflow.update,
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"])).decode()
            page = pages.get(self.path)
            if page is None:
                self.send_error(404)
                return
            body = json.dumps(page(dict(parse_qsl(raw, keep_blank_values=True)))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def _called(site: Site, form: Form) -> Any:
    function = form.get("wsfunction")
    about = [form["courseid"]] if "courseid" in form else _numbers(form)
    try:
        document = site.call(form)
    except MoodleError as error:
        _log("function called", function=function, courses=about, errorcode=error.errorcode)
        return error.document
    _log("function called", function=function, courses=about, errorcode=None)
    return document


if __name__ == "__main__":
    begun = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    serve(Site(begun["courses"], begun["tokens"]), int(sys.argv[1]))
