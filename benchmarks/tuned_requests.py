"""Signed webhooks with bare requests, as fast as its public interface allows.

Run as a process, it sends the webhooks of a file one after another, or on several threads:
`python -m benchmarks.tuned_requests FILE URL --part 0 1 --threads 1`, with the signing secret in
BENCHMARK_SECRET.
"""

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path

import requests
from requests import PreparedRequest
from requests.adapters import HTTPAdapter

from contract import signatures
from contract.signatures import Secret

_HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "course-webhooks/1",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
}
# Seconds, of each request.
TIMEOUT = 15.0


class Sender:
    """Posts webhooks over connections that stay open.

    Of each request only body and signature are new: the rest is copied. The environment is not
    read, and there are no cookies.
    """

    def __init__(self, url: str, secret: Secret, *, connections: int) -> None:
        self._url = url
        self._secret = secret
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._http.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=connections))
        self._template = cache(self._prepare)

    @classmethod
    def from_environment(cls, *, connections: int) -> "Sender":
        """Return a sender for the receiver and the secret that the environment names."""
        secret = Secret.parse(os.environ["BENCHMARK_SECRET"])
        return cls(os.environ["BENCHMARK_RECEIVER"], secret, connections=connections)

    def send(self, path: str, webhook_id: str, body: str) -> None:
        """Sign and post a body; raise an error if the response is one."""
        raw = body.encode()
        request = self._template(path).copy()
        request.body = raw
        request.headers["Content-Length"] = str(len(raw))
        request.headers.update(
            signatures.sign([self._secret], webhook_id, raw, now=datetime.now(UTC))
        )
        self._http.send(request, timeout=TIMEOUT, allow_redirects=False).raise_for_status()

    def _prepare(self, path: str) -> PreparedRequest:
        request = PreparedRequest()
        request.prepare_method("POST")
        request.prepare_url(f"{self._url}{path}", None)
        request.prepare_headers(_HEADERS)
        return request


def main() -> None:
    """Send every nth webhook of the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    first, step = given.part
    webhooks = json.loads(given.file.read_text())[first::step]
    sender = Sender.from_environment(connections=given.threads)
    if given.threads == 1:
        for webhook in webhooks:
            sender.send(*webhook)
        return
    with ThreadPoolExecutor(given.threads) as pool:
        for _ in pool.map(lambda webhook: sender.send(*webhook), webhooks):
            pass


if __name__ == "__main__":
    main()
