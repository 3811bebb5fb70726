"""Both platforms with a worker between them, as real processes, where Ada may sign in."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from demo.admin import Admin
from demo.processes import Machines, machines
from tests.foundation.pages.conftest import PASSWORD

_SETTINGS = {
    "NOTIFIER_POLL_INTERVAL": "0.05",
}


@contextmanager
def lived_in(folder: Path, titles: Mapping[str, str]) -> Iterator[Machines]:
    """Let both run with an endpoint, a source, and courses by these titles linked on both sides."""
    with machines(folder) as both:
        both.environment.update(_SETTINGS)
        for service in ("notifier", "receiver"):
            both.run(service, "db", "upgrade")
            both.run(service, "users", "add", "Ada", stdin=PASSWORD)
        both.start("eassessment", "notifier", "serve")
        both.start("elms", "receiver", "serve")
        both.wait_until_answers("eassessment", both.eassessment_url)
        both.wait_until_answers("elms", both.elms_url)
        _introduce(both)
        both.start("worker", "notifier", "work")
        _link(both, titles)
        yield both


def _introduce(both: Machines) -> None:
    """Register ELMS's door at eAssessment, and eAssessment's secret at ELMS."""
    door = f"{both.elms_url}/webhooks/eassessment"
    secret = both.run("notifier", "endpoints", "add", door).split()[-1]
    url = both.eassessment_url
    both.run("receiver", "sources", "add", "eassessment", "--url", url, stdin=secret)


def _link(both: Machines, titles: Mapping[str, str]) -> None:
    admin = Admin(both.eassessment_url, both.environment["NOTIFIER_ADMIN_KEY"])
    lines = ["source,course_id,token"]
    for course_id, title in titles.items():
        token = admin.add_course({"course_id": course_id, "title": title})
        lines.append(f"eassessment,{course_id},{token}")
    (both.folder / "links.csv").write_text("\n".join(lines), encoding="utf-8")
    both.run("receiver", "registry", "import", "links.csv")
