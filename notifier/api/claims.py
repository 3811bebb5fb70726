"""Claims of course tokens by ELMS, which signs them with the secret of its endpoint."""

from collections.abc import Sequence
from datetime import UTC, datetime

from flask import Blueprint, Response, request

from contract import signatures
from contract.claims import ClaimRequest, ClaimResponse, ClaimResponseItem
from contract.signatures import Secret
from foundation import logging
from foundation.db import audit
from foundation.db import session as db
from foundation.db.audit import Actor, Channel
from foundation.errors import DecryptionError, Refusal
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
from notifier.errors import ClaimRepeatedError, NotifierError, SignatureRefusedError
from notifier.models import EndpointSecret
from notifier.webhooks import endpoints

_MAX_BODY = 256 * 1024

claims_api = Blueprint("claims_api", __name__, url_prefix="/api/v1")
_log = logging.get_logger(__name__)


@claims_api.post("/tokens/claim")
@guarded("webhook signature")
def claim_tokens() -> Response:
    """Return the new tokens of courses to an endpoint that may claim them, until they are used."""
    secret, webhook_id, raw = _verified()
    require_json()
    course_ids = parse_json(ClaimRequest, raw).course_ids
    current = services.current()
    with current.writing() as (session, now):
        refusal: NotifierError | None = endpoints.lock_claimant(session, secret)
        # That of a refused claim is stored too: it must not become good when the cause is gone.
        if not token_claims.record(session, secret.endpoint_id, webhook_id, now=now):
            refusal = ClaimRepeatedError(f"the claim {webhook_id} was received before")
        outcomes: Sequence[ClaimedToken | Refusal] = ()
        if refusal is None:
            outcomes = token_claims.claim(session, course_ids, vault=current.vault, now=now)
        claimed = {
            one.course_id: one.token.token_id for one in outcomes if isinstance(one, ClaimedToken)
        }
        actor = Actor(f"endpoint {secret.endpoint_id}", Channel.API, client_address())
        audit.record_all(session, actor, "course.claim-token", claimed, details=claimed, now=now)
    if refusal is not None:
        raise refusal
    _log.info(
        "tokens claimed",
        endpoint_id=secret.endpoint_id,
        claimed=list(claimed),
        refused=[one for one in course_ids if one not in claimed],
    )
    items: list[ClaimResponseItem] = []
    for course_id, outcome in zip(course_ids, outcomes, strict=True):
        if isinstance(outcome, ClaimedToken):
            items.append(
                ClaimResponseItem(
                    course_id=course_id,
                    status=200,
                    token=outcome.token.reveal(),
                    course_version=outcome.course_version,
                    regenerated_at=outcome.regenerated_at,
                    valid_until=outcome.valid_until,
                )
            )
        else:
            problem = to_problem(outcome)
            document = problem.document()
            items.append(
                ClaimResponseItem(course_id=course_id, status=problem.status, problem=document)
            )
    body = ClaimResponse(answers=tuple(items)).model_dump_json(exclude_unset=True)
    return Response(body, content_type="application/json")


def _verified() -> tuple[EndpointSecret, str, bytes]:
    """Return the secret that signed the request, its `webhook-id` and its body.

    Raises SignatureRefusedError.
    """
    headers = {name.lower(): value for name, value in request.headers}
    try:
        parsed = signatures.parse_headers(headers, now=datetime.now(UTC))
    except signatures.SignatureError as error:
        raise SignatureRefusedError(str(error)) from None
    raw, current = read_body(_MAX_BODY), services.current()
    with current.database.reading() as session:
        known = endpoints.signing_secrets(session, now=db.now(session))
        session.expunge_all()
    for secret in known:
        try:
            key = Secret.parse(current.vault.decrypt(secret.encrypted))
            signatures.verify_body([key], parsed, raw)
        except signatures.NoMatchError:
            continue
        except DecryptionError as error:
            # The secret of one endpoint must not keep the others from claiming.
            _log.error("secret not decrypted", endpoint_id=secret.endpoint_id, cause=str(error))
            continue
        return secret, parsed.webhook_id, raw
    raise SignatureRefusedError("no signature matches: the secret, id, timestamp or body differs")
