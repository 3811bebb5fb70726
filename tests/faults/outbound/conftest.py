"""What the tests of hostile receivers work with: those of the notifier's fixtures they need."""

from tests.notifier.conftest import make_raw_sink, make_sink, make_transport, sink

__all__ = ["make_raw_sink", "make_sink", "make_transport", "sink"]

# Seconds: far more than any deadline of these tests, far less than the receivers stall.
PATIENCE = 20.0
HEADERS = {
    "webhook-id": "msg_1",
    "webhook-timestamp": "1795338000",
    "webhook-signature": "v1,c2lnbmF0dXJl",
}
BODY = '{"type":"course.deleted","data":{"course_id":"Größe"}}'.encode()
