"""Where a page of ELMS does what an advice has a command for."""

from collections.abc import Sequence

from flask import url_for

from foundation.pages.ways import Lead, Way, number, to


def _on_its_page(form: str, anchor: str) -> Lead:
    def lead(words: Sequence[str], about: str | None) -> tuple[str, str]:
        course_id = words[0] if words and words[0] != "COURSE_ID" else None
        says = f"the form “{form}” " + ("on its page" if course_id is None else f"of {course_id}")
        if about is not None:
            return says, f"{about}#{anchor}"
        return says, url_for("registry.show", begins=course_id)

    return lead


def _run(words: Sequence[str], _: str | None) -> tuple[str, str] | None:
    run_id = number(words)
    if run_id is None:
        return None
    return f"the page of grade sync {run_id}", url_for("runs.show_run", run_id=run_id)


WAYS = (
    to("sources list", "the page Sources", lambda: url_for("sources.show")),
    to("registry list", "the Registry", lambda: url_for("registry.show")),
    to("registry add", "the form “Link a course”", lambda: url_for("registry.ask_for_new")),
    Way("registry set-token", _on_its_page("Enter a token", "enter-token")),
    Way("registry set-activity", _on_its_page("Where its grades go", "place")),
    to("runs list", "the page Runs", lambda: url_for("runs.show")),
    Way("runs show", _run),
)
