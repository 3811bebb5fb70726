"""Refusals as pages, or as messages on a page, with the next step."""

from flask import Response, g, make_response, redirect, render_template, request, url_for
from markupsafe import Markup
from werkzeug.exceptions import BadHost
from werkzeug.wrappers import Response as AnyResponse

from contract.problems import Problem, ProblemType
from foundation.errors import Advice, Refusal
from foundation.pages import redirects, sessions
from foundation.pages.errors import SignInRequiredError
from foundation.pages.filters import sentence
from foundation.pages.redirects import local_path
from foundation.pages.site import current_site

# Requests below these paths come from programs.
_API_PATHS = ("/api/", "/webhooks/")


def show(problem: Problem, advice: Advice) -> Response | None:
    """Return a problem as a page if the request was for one, or None."""
    if isinstance(request.routing_exception, BadHost):
        return None  # Flask builds no URLs then, and a page is full of them
    if request.url_rule is not None:
        is_page = request.blueprint in current_site().blueprints
    else:
        accepts = "text/html" in request.headers.get("Accept", "")
        is_page = accepts and not request.path.startswith(_API_PATHS)
    if not is_page:
        return None
    title, detail = problem.document()["title"], problem.detail
    if problem.type is ProblemType.NOT_FOUND:
        title = "Page not found"
        detail = "There is no page at this address: it is mistyped, or the page no longer exists."
        advice = Advice("Check the address, or go to the start page.")
    elif problem.type is ProblemType.DATABASE_UNAVAILABLE:
        text = f"{advice.text} If this persists, an operator finds the cause with:"
        advice = Advice(text, "doctor")
    page = render_template(
        "pages/refused.html",
        status=problem.status,
        title=title,
        detail=detail,
        advice=advice,
        back=redirects.referring_page(),
        request_id=g.get("request_id"),
        # A database that has just failed is not queried again.
        current_user=g.get("current_user")
        if problem.status >= 500
        else sessions.current_user_if_available(),
    )
    return make_response(page, problem.status)


def render_refusal(refusal: Refusal) -> Markup:
    """Return a refusal with its advice as HTML, for a form field or a flash message."""
    advice = current_site().render_advice(refusal.advice)
    return Markup("{} {}").format(sentence(str(refusal)), advice)


def to_sign_in(_: SignInRequiredError) -> AnyResponse:
    """Redirect to the sign-in page, which returns to the requested page."""
    requested = request.full_path.rstrip("?") if request.method == "GET" else "/"
    next_path = local_path(f"{request.script_root}{requested}")
    return redirect(url_for("sign_in.show", next=next_path), 303)
