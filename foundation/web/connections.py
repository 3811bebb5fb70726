"""Connections: a thread for a whole head only, an end to every wait, problems for refusals."""

import errno
import secrets
import selectors
import socket
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from gunicorn.http import errors as http
from gunicorn.workers.gthread import TConn, ThreadWorker

from contract import strict_json
from contract.problems import MEDIA_TYPE, Problem
from foundation import logging
from foundation.errors import Refusal
from foundation.web.errors import (
    PROBLEMS,
    HeadersTooLargeError,
    InternalError,
    RequestMalformedError,
    RequestSlowError,
    UriTooLongError,
)

MAX_HEAD_BYTES = 32 * 1024
"""How much is read of a head that does not end: three headers of 8 kB and as much again."""
PATIENCE_SECONDS = 10.0
"""How long a client may be silent, and a head, a body or a short answer be under way."""
SLOWEST_BYTES_PER_SECOND = 64 * 1024
"""How fast what is longer must come or go on the whole: 16 MB of grades have four minutes."""
_LINGER_SECONDS = 2.0
_REST_SECONDS = 0.5
_READ_BYTES = 64 * 1024

_log = logging.get(__name__)
_Connection = Any  # gunicorn's TConn, whose stubs do not know that its socket is ours

_OURS = (
    http.ConfigurationProblem,
    http.InvalidResponseHeader,  # type: ignore[attr-defined]  # newer than the stubs
    http.InvalidResponseHeaderName,  # type: ignore[attr-defined]  # as above
)
_MALFORMED: dict[type[Exception], str] = {
    http.InvalidRequestLine: "the request line is not as HTTP says",
    http.InvalidRequestMethod: "the method is none that HTTP knows",
    http.InvalidHTTPVersion: "the version is neither HTTP/1.0 nor HTTP/1.1",
    http.InvalidHeaderName: "the name of a header is not as HTTP says",
    http.InvalidHeader: "a header is malformed, stands twice, or contradicts another",
    http.ObsoleteFolding: "a header goes on in the next line, which HTTP no longer allows",
    http.UnsupportedTransferCoding: "the transfer coding is none that is understood here",
    http.ExpectationFailed: "the only expectation that is met here is 100-continue",
}


class ClientSocket(socket.socket):
    """A client's socket on which no wait is endless, and which hands on what came early."""

    _early = b""
    _ends_at = 0.0

    @classmethod
    def taking_over(cls, accepted: socket.socket) -> "ClientSocket":
        """Return the accepted connection; the given socket is left without it."""
        return cls(fileno=accepted.detach())

    @property
    def has_begun(self) -> bool:
        """Whether anything of a request has come that nobody has read."""
        return bool(self._early)

    def gather(self) -> bool:
        """Take in what has come, without waiting; tell whether there is nothing to wait for.

        That is a whole head, the end of the connection, or an error that reading will meet too.
        Raises HeadersTooLargeError for a head beyond `MAX_HEAD_BYTES`.
        """
        try:
            came = super().recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        searched = max(0, len(self._early) - 3)
        self._early += came
        whole = _ends(self._early, searched)
        if not whole and len(self._early) > MAX_HEAD_BYTES:
            raise HeadersTooLargeError(f"the head does not end within {MAX_HEAD_BYTES} bytes")
        return whole or not came

    def allow(self, seconds: float) -> None:
        """Let reading go on for so long; what comes adds the time that its bytes may take."""
        self._ends_at = time.monotonic() + seconds

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return what came early, all of it, or else what comes in time."""
        if self._early:
            came, self._early = self._early, b""
            return came
        self.settimeout(_patience(self._ends_at))
        try:
            came = super().recv(size, flags)
        except (TimeoutError, BlockingIOError):
            raise RequestSlowError("the rest of the request did not come in time") from None
        self._ends_at += len(came) / SLOWEST_BYTES_PER_SECOND
        return came

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of it in the time that it may take; who does not read is as good as gone."""
        rest = memoryview(data)
        ends_at = time.monotonic() + PATIENCE_SECONDS + len(rest) / SLOWEST_BYTES_PER_SECOND
        try:
            while rest:
                self.settimeout(_patience(ends_at))
                rest = rest[super().send(rest, flags) :]
        except (TimeoutError, BlockingIOError):
            raise BrokenPipeError(errno.EPIPE, "the client does not read") from None


def _patience(ends_at: float) -> float:
    return max(0.0, min(PATIENCE_SECONDS, ends_at - time.monotonic()))


def _ends(head: bytes, searched: int) -> bool:
    # Lines that end in a bare LF end a head too: it is for the parser to refuse them.
    return head.find(b"\r\n\r\n", searched) >= 0 or head.find(b"\n\n", searched) >= 0


class Connections(ThreadWorker):
    """A process of threads, of which no client that stalls has one for good."""

    pending_conns: deque[_Connection]
    _closing: deque[_Connection]

    def init_process(self) -> None:
        """Begin with no connection."""
        self._closing = deque()
        super().init_process()

    def accept(self, listener: socket.socket) -> None:
        """Take a connection in; its thread comes with the end of its head."""
        try:
            accepted, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self.nr_conns += 1
        sock = ClientSocket.taking_over(accepted)
        self._await_head(TConn(self.cfg, sock, address, listener.getsockname()))

    def on_client_socket_readable(self, conn: _Connection, client: socket.socket) -> None:
        """Treat the next request of a connection as the first one."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._await_head(conn)

    def _await_head(self, conn: _Connection) -> None:
        conn.timeout = time.monotonic() + (PATIENCE_SECONDS if self.alive else _LINGER_SECONDS)
        self.pending_conns.append(conn)
        self._watch(conn, self.on_pending_socket_readable)

    def _watch(self, conn: _Connection, callback: Any) -> None:
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(callback, conn))

    def on_pending_socket_readable(self, conn: _Connection, client: Any) -> None:
        """Give the connection a thread once its head is whole."""
        try:
            if client.gather():
                super().on_pending_socket_readable(conn, client)
        except HeadersTooLargeError as error:
            self.pending_conns.remove(conn)
            self._refuse(conn, error)

    def murder_pending(self) -> None:
        """Close what has waited too long: with a 408 if a request had begun, at once if not."""
        now = time.monotonic()
        while self.pending_conns and self.pending_conns[0].timeout <= now:
            conn = self.pending_conns.popleft()
            if conn.sock.has_begun:
                self._refuse(conn, RequestSlowError("the head of the request did not come in time"))
            else:
                self._drop(conn)
        while self._closing and self._closing[0].timeout <= now:
            self._drop(self._closing.popleft())

    def _refuse(self, conn: _Connection, error: Refusal) -> None:
        self.poller.unregister(conn.sock)
        self.handle_error(None, conn.sock, conn.client, error)
        self._linger(conn)

    def _drop(self, conn: _Connection) -> None:
        self.poller.unregister(conn.sock)
        self._close(conn)

    def _close(self, conn: _Connection) -> None:
        self.nr_conns -= 1
        conn.close()

    def _cap_keepalive(self, deadline: float) -> None:
        # A stopping process does not wait for clients that have not said what they want.
        super()._cap_keepalive(deadline)  # type: ignore[misc]  # newer than the stubs
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def finish_request(self, conn: _Connection, fs: Future[bool]) -> None:
        """Keep a connection that may go on; see the others off without waiting for them here."""
        if fs.cancelled() or fs.exception() is not None or fs.result():
            super().finish_request(conn, fs)
        else:
            self._linger(conn)

    def _linger(self, conn: _Connection) -> None:
        # RFC 9112, 9.6: who closes at once may destroy the answer before it is read. Gunicorn
        # waits for the client here, and all other connections with it.
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
            return
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + _LINGER_SECONDS
        self._closing.append(conn)
        self._watch(conn, self._see_off)

    def _see_off(self, conn: _Connection, client: socket.socket) -> None:
        came = b""
        with suppress(OSError):
            came = socket.socket.recv(client, _READ_BYTES, socket.MSG_DONTWAIT)
        if not came:
            self._closing.remove(conn)
            self._drop(conn)

    def handle(self, conn: _Connection) -> bool:
        """Handle one request, whose reading must end in time."""
        conn.sock.allow(PATIENCE_SECONDS)
        return super().handle(conn)

    def _keepalive_after(self, conn: _Connection, keepalive: bool) -> bool:
        # A body that nobody wanted is on its way, as a rule: the connection goes on behind it.
        conn.sock.allow(_REST_SECONDS)
        try:
            return bool(super()._keepalive_after(conn, keepalive))  # type: ignore[misc]  # as above
        except Exception:  # noqa: BLE001 - whatever is wrong with the rest, the answer has been given
            return False

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:  # noqa: ARG002 - gunicorn's signature
        """Answer what gunicorn refuses, or fails at, with a problem document."""
        refusal = _refusal_of(exc)
        problem = Problem(PROBLEMS[type(refusal)], str(refusal), refusal.advice)
        request_id = secrets.token_hex(8)
        ours = isinstance(refusal, InternalError)
        _log.log(
            40 if ours else 30,
            "request refused by the server",
            problem=problem.type.value,
            detail=problem.detail,
            next_step=problem.next_step,
            peer=addr[0] if addr else None,
            request_id=request_id,
            exc_info=exc if ours else None,
        )
        with suppress(OSError):  # a client that reads nothing is not waited for
            client.send(_answer(problem, request_id), socket.MSG_DONTWAIT)


def _refusal_of(error: BaseException) -> Refusal:
    match error:
        case RequestSlowError() | HeadersTooLargeError():
            return error
        case http.LimitRequestLine():
            return UriTooLongError("the request line is longer than this server reads")
        case http.LimitRequestHeaders():
            return HeadersTooLargeError("the headers are more or longer than this server reads")
        case http.ParseException() if not isinstance(error, _OURS):
            kinds = (kind for kind in type(error).__mro__ if kind in _MALFORMED)
            return RequestMalformedError(
                _MALFORMED.get(next(kinds, Exception), "the request is not as HTTP says"),
                next_step="Check the request and send it again.",
            )
        case _:
            return InternalError("the request failed for a reason that is ours")


def _answer(problem: Problem, request_id: str) -> bytes:
    body = strict_json.dump({**problem.document(), "request_id": request_id}).encode()
    head = (
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
        "Connection: close",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        f"X-Request-Id: {request_id}",
    )
    return "\r\n".join((*head, "", "")).encode("ascii") + body
