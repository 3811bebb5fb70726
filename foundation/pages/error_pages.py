"""Refusals as pages, or among a page's sentences: what and why, and what to do next."""

from flask import Response, g, make_response, redirect, render_template, request, url_for
from markupsafe import Markup
from werkzeug.exceptions import BadHost
from werkzeug.wrappers import Response as AnyResponse

from contract.problems import Problem, ProblemType
from foundation.errors import Refusal
from foundation.pages import context, redirects, sessions
from foundation.pages.errors import SignInNeeded
from foundation.pages.filters import sentence
from foundation.pages.redirects import own_path

_PROGRAMS = ("/api/", "/webhooks/")
"""Below these nobody looks at a page."""
_IN_OTHER_WORDS = {
    ProblemType.NOT_FOUND: (
        "There is no such page",
        "Nothing is at this address: it may have been mistyped, or what it showed is gone.",
        "Check the address, or begin again at the first page.",
    ),
}


def show(problem: Problem) -> Response | None:
    """Return a problem as a page where the request was for one, or None."""
    if not _is_for_a_page():
        return None
    document = problem.document()
    title, detail, next_step = _IN_OTHER_WORDS.get(
        problem.type, (document["title"], problem.detail, problem.next_step)
    )
    if problem.type is ProblemType.DATABASE_UNAVAILABLE:
        # A table may be missing too, and then no wait helps; strangers are not told which.
        doctor = f"{context.current().site.command} doctor"
        next_step += f" If that goes on, `{doctor}` on the machine of this service says why."
    page = render_template(
        "pages/refused.html",
        status=problem.status,
        title=title,
        detail=detail,
        next_step=next_step,
        back=redirects.page_before(),
        request_id=g.get("request_id"),
        person=_who(problem),
    )
    return make_response(page, problem.status)


def in_sentences(refusal: Refusal) -> Markup:
    """Return what was refused and what to do, as it stands beside a field or among sentences."""
    advice = context.current().site.spoken(refusal.advice)
    return Markup("{} {}").format(sentence(str(refusal)), advice)


def to_sign_in(_: SignInNeeded) -> AnyResponse:
    """Send somebody to sign in, and to come back to the page that was asked for."""
    asked = request.full_path.rstrip("?") if request.method == "GET" else "/"
    return redirect(url_for("sign_in.show", next=own_path(asked)), 303)


def _is_for_a_page() -> bool:
    if isinstance(request.routing_exception, BadHost):
        return False  # Flask makes no address then, and a page is full of them
    if request.url_rule is not None:
        return request.blueprint in context.current().blueprints
    accepts = "text/html" in request.headers.get("Accept", "")
    return accepts and not request.path.startswith(_PROGRAMS)


def _who(problem: Problem) -> sessions.Person | None:
    """Return who is signed in; what failed is not asked once more."""
    if problem.status >= 500:
        known: sessions.Person | None = g.get("person")
        return known
    return sessions.person_if_known()
