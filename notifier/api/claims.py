"""Claims of course tokens by ELMS, which signs them with the secret of its endpoint."""

from datetime import UTC, datetime

from flask import Blueprint, Response, request

from contract import signatures
from contract.claims import ClaimRequest, ClaimResponse, ClaimResponseItem
from contract.signatures import Secret
from foundation import logging
from foundation.db import audit
from foundation.db import session as db
from foundation.db.audit import Actor, Channel
from foundation.web.app import (
    client_address,
    guarded,
    parse_json,
    read_body,
    require_json,
    to_problem,
)
from notifier import services
from notifier.courses import token_claims
from notifier.courses.token_claims import ClaimedToken
from notifier.errors import ClaimsNotAllowedError, SignatureRefusedError
from notifier.models import Endpoint
from notifier.webhooks import endpoints

_MAX_BODY = 256 * 1024

claims_api = Blueprint("claims_api", __name__, url_prefix="/api/v1")
_log = logging.get_logger(__name__)


@claims_api.post("/tokens/claim")
@guarded("webhook signature")
def claim_tokens() -> Response:
    """Return the new tokens of courses to an endpoint that may claim them, until they are used."""
    endpoint, raw = _verified()
    if not endpoint.may_claim_tokens or endpoint.disabled_at is not None:
        raise ClaimsNotAllowedError(
            f"endpoint {endpoint.id} may not claim tokens",
            advice=ClaimsNotAllowedError.advice.fill("ENDPOINT_ID", str(endpoint.id)),
        )
    require_json()
    course_ids = parse_json(ClaimRequest, raw).course_ids
    current = services.current()
    with current.writing() as (session, now):
        outcomes = token_claims.claim(session, course_ids, vault=current.vault, now=now)
        claimed = {
            one.course_id: one.token.token_id for one in outcomes if isinstance(one, ClaimedToken)
        }
        actor = Actor(f"endpoint {endpoint.id}", Channel.API, client_address())
        audit.record_all(session, actor, "course.claim-token", claimed, details=claimed, now=now)
    _log.info(
        "tokens claimed",
        endpoint_id=endpoint.id,
        claimed=list(claimed),
        refused=[one for one in course_ids if one not in claimed],
    )
    items: list[ClaimResponseItem] = []
    for course_id, outcome in zip(course_ids, outcomes, strict=True):
        if isinstance(outcome, ClaimedToken):
            token = outcome.token.reveal()
            items.append(ClaimResponseItem(course_id=course_id, status=200, token=token))
        else:
            problem = to_problem(outcome)
            document = problem.document()
            items.append(
                ClaimResponseItem(course_id=course_id, status=problem.status, problem=document)
            )
    body = ClaimResponse(answers=tuple(items)).model_dump_json(exclude_unset=True)
    return Response(body, content_type="application/json")


def _verified() -> tuple[Endpoint, bytes]:
    """Return the endpoint whose secret signed the request, and the body.

    Raises SignatureRefusedError.
    """
    headers = {name.lower(): value for name, value in request.headers}
    try:
        parsed = signatures.parse_headers(headers, now=datetime.now(UTC))
    except signatures.SignatureError as error:
        raise SignatureRefusedError(str(error)) from None
    raw, current = read_body(_MAX_BODY), services.current()
    with current.database.reading() as session:
        known = {endpoint.id: endpoint for endpoint in endpoints.list_all(session)}
        encrypted = endpoints.encrypted_secrets(session, known, now=db.now(session))
        session.expunge_all()
    for endpoint_id, texts in encrypted.items():
        keys = [Secret.parse(current.vault.decrypt(text)) for text in texts]
        try:
            signatures.verify_body(keys, parsed, raw)
        except signatures.NoMatchError:
            continue
        return known[endpoint_id], raw
    raise SignatureRefusedError("no signature matches: the secret, id, timestamp or body differs")
