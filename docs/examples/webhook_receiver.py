"""A minimal webhook receiver: verify the signature, then apply each change once.

WEBHOOK_SECRET=whsec_… flask --app webhook_receiver run
"""

import base64
import hmac
import json
import os
import time

from flask import Flask, request

TYPES = {"course.deleted", "course.restored", "token.regenerated"}
TOLERANCE = 300  # seconds that the timestamp may differ from the clock of this machine

app = Flask(__name__)
key = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
versions = {}  # a database table in real code, updated in the same transaction as the change


@app.post("/webhooks")
def receive():
    """Verify the raw body before parsing it; respond 2xx to everything that is understood."""
    body = request.get_data()
    try:
        verify(request.headers, body)
    except ValueError as error:
        return {"detail": str(error)}, 401
    event = json.loads(body)
    if event["type"] not in TYPES or event.get("test") is True:
        return {"outcome": "ignored"}
    return {"outcome": apply(event["type"], event["data"])}


def verify(headers, body):
    """Raise ValueError unless our secret signed the body within the last 300 seconds."""
    webhook_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    is_number = timestamp.isascii() and timestamp.isdigit() and len(timestamp) == 10
    if not is_number or abs(time.time() - int(timestamp)) > TOLERANCE:
        raise ValueError("timestamp missing, too old or too new")
    content = f"{webhook_id}.{timestamp}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.digest(key, content, "sha256"))
    signatures = headers.get("webhook-signature", "").split(" ")  # two while a secret rotates
    if not any(hmac.compare_digest(expected, one.encode()) for one in signatures):
        raise ValueError("no matching signature")


def apply(event_type, data):
    """Apply a change unless it is a duplicate, or older than the last one that was applied."""
    course_id, version = data["course_id"], data["course_version"]
    if version <= versions.get(course_id, 0):
        return "stale"
    versions[course_id] = version
    print(event_type, course_id)
    return "applied"
