"""The server behind ``textclf serve``: one page, one JSON endpoint, and nothing for anybody else.

A page of another site that the user has open cannot use it: requests must name this server as their host
(which a name that is pointed at 127.0.0.1 does not, "DNS rebinding") and come from its own page or from no
page; and answers say that no other page may frame or read them.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from email.parser import BytesParser
from email.policy import HTTP
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from textclf_transformer.commands.addresses import host_headers, is_loopback, name_in_url
from textclf_transformer.commands.common import describe_error
from textclf_transformer.data.tables import Columns, row_document
from textclf_transformer.data.text_files import BYTE_ORDER_MARK, Document, decode, shows_something
from textclf_transformer.errors import UsageError, UserError, printable
from textclf_transformer.evaluation.loaded_run import LoadedRun
from textclf_transformer.evaluation.report_documents import ShownDocument, shown_documents
from textclf_transformer.evaluation.report_page import encoded, render

MAX_BODY_BYTES = 4_000_000
"""Of one request; about 2,000 pages of a book."""

SECONDS_TO_SEND = 20.0
LABELS_SHOWN = 20

_JSON, _FORM = "application/json", "multipart/form-data"
_COLUMNS = Columns(text="text", label=None, id=None, group=None)


class _Refusal(Exception):
    """What is wrong with a request, in one line, and the status that says so."""

    def __init__(self, status: HTTPStatus, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


class ModelServer(ThreadingHTTPServer):
    """Serves one run; use as a context manager, so that the port is given back.

    Args:
        run: what classifies; one document at a time.
        host: the address to listen at.
        port: the port; 0: any that is free.
        quiet: whether requests are not logged to stderr.

    Raises:
        UsageError: the address cannot be listened at.
    """

    daemon_threads = True

    def __init__(self, run: LoadedRun, *, host: str, port: int, quiet: bool) -> None:
        self.run = run
        self.quiet = quiet
        self.model_lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), RequestHandler)
        except (OSError, UnicodeError) as error:
            raise UsageError(
                "cannot listen here",
                where=f"{host}:{port}",
                found=getattr(error, "strerror", None) or str(error),
                mend="choose another --port (0: any that is free), or as --host an address of this machine",
            ) from error
        self.hosts = host_headers(host, self.server_port)
        self.url = f"http://{name_in_url(host)}:{self.server_port}/"
        self.stays_here = is_loopback(host)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that left before its answer; anything else is a fault of ours."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def answer(self, document: Document) -> ShownDocument:
        """Classify one document; requests wait for one another here.

        Raises:
            UserError: the document has no tokens, or a logit is not finite.
        """
        with self.model_lock:
            return shown_documents(self.run, [document])[0]

    def page(self, *, text: str = "", shown: ShownDocument | None = None, fault: str = "") -> bytes:
        """Return the page, with an answer or a fault."""
        run = self.run
        page = render(
            "serve.html",
            forms="'self'",
            name=run.run.name,
            labels=run.label_names[:LABELS_SHOWN],
            more_labels=len(run.label_names) > LABELS_SHOWN,
            tokens=(run.max_chunks - 1) * run.stride + run.chunk_size - 2,
            chunks=run.max_chunks,
            stays_here=self.stays_here,
            text=text,
            shown=shown,
            fault=fault,
        )
        return encoded(page)


class RequestHandler(BaseHTTPRequestHandler):
    """One request: ``GET /`` and ``POST /`` give the page, ``POST /predict`` JSON."""

    server: ModelServer
    timeout = SECONDS_TO_SEND
    server_version = "textclf"
    sys_version = ""

    def do_GET(self) -> None:
        """Give the empty page."""
        with self._refusals():
            self._check_sender()
            if self.path != "/":
                raise _Refusal(HTTPStatus.NOT_FOUND, "there is nothing here; the page is at /")
            self._send(HTTPStatus.OK, self.server.page(), "text/html; charset=utf-8")

    def do_POST(self) -> None:
        """Classify the document that was sent."""
        with self._refusals():
            self._check_sender()
            if self.path == "/predict":
                document = _json_document(self._body(_JSON))
                row = self.server.answer(document).prediction.row()
                self._send_json(HTTPStatus.OK, row)
            elif self.path == "/":
                self._answer_form()
            else:
                raise _Refusal(HTTPStatus.NOT_FOUND, "there is nothing here; ask /predict")

    def _answer_form(self) -> None:
        text = ""
        try:
            document = _form_document(self.headers["Content-Type"] or "", self._body(_FORM))
            text = document.text
            page = self.server.page(text=text, shown=self.server.answer(document))
            self._send(HTTPStatus.OK, page, "text/html; charset=utf-8")
        except (UserError, _Refusal) as error:
            status = error.status if isinstance(error, _Refusal) else HTTPStatus.BAD_REQUEST
            words = error.words if isinstance(error, _Refusal) else error.lines[0]
            self._send(status, self.server.page(text=text, fault=words), "text/html; charset=utf-8")

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        """Answer what goes wrong with one line of JSON."""
        try:
            yield
        except _Refusal as refusal:
            self._send_json(refusal.status, {"error": refusal.words})
        except UserError as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": error.lines[0]})
        except (TimeoutError, ConnectionError):
            self.close_connection = True
        except Exception as error:
            traceback.print_exc()
            lines, _ = describe_error(error)
            self._send_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": lines[0]})

    def _check_sender(self) -> None:
        """Refuse what was not meant for this server, or was sent by the page of another site."""
        host = (self.headers["Host"] or "").lower()
        if host not in self.server.hosts:
            raise _Refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"this host is not served here; found {printable(host)!r}, expected {self.server.url}",
            )
        origin = self.headers["Origin"]
        if origin is not None and origin.lower() not in {f"http://{each}" for each in self.server.hosts}:
            raise _Refusal(
                HTTPStatus.FORBIDDEN, f"pages of another site are not answered; found {printable(origin)!r}"
            )

    def _body(self, kind: str) -> bytes:
        """Return the request's body, which must be of the given kind and of a bounded, stated size."""
        length = self.headers["Content-Length"] or ""
        if not (length.isascii() and length.isdigit() and len(length) < 20):
            raise _Refusal(
                HTTPStatus.LENGTH_REQUIRED, "the request does not say how long it is (Content-Length)"
            )
        if int(length) > MAX_BODY_BYTES:
            self._discard(int(length))
            raise _Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the document is too long; found {int(length):,} bytes, expected at most {MAX_BODY_BYTES:,}",
            )
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise _Refusal(HTTPStatus.BAD_REQUEST, f"the request was cut off after {len(body):,} bytes")
        if self.headers.get_content_type() != kind:
            raise _Refusal(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"the request is of another kind; found {printable(self.headers.get_content_type())!r}, "
                f"expected {kind}",
            )
        return body

    def _discard(self, length: int) -> None:
        """Read on for a while, as a browser shows no answer that comes before it has sent everything."""
        left = min(length, 10 * MAX_BODY_BYTES)
        while left > 0 and (part := self.rfile.read(min(left, 1 << 16))):
            left -= len(part)

    def _send_json(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        line = json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"
        self._send(status, encoded(line), f"{_JSON}; charset=utf-8")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        allowed = {"Allow": "GET, POST"} if status == HTTPStatus.METHOD_NOT_ALLOWED else {}
        for name, value in {
            **allowed,
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": "frame-ancestors 'none'",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what the standard library refuses (a method, a broken line) as everything else is."""
        status, words = HTTPStatus(code), message or HTTPStatus(code).phrase
        if status == HTTPStatus.NOT_IMPLEMENTED:  # its word for a method without a ``do_`` of that name
            status = HTTPStatus.METHOD_NOT_ALLOWED
            words = f"no method of this page; found {self.command}, expected GET or POST"
        self._send_json(status, {"error": printable(words)})

    def log_message(self, format: str, *args: Any) -> None:
        """Log a request on one line without control characters."""
        if not self.server.quiet:
            print(printable(format % args), file=sys.stderr)


def _json_document(body: bytes) -> Document:
    """Return the document of ``{"text": …}``, with ``"id"`` if there is one."""
    try:
        record = json.loads(decode(body, "the request"))
    except (ValueError, RecursionError) as error:
        raise _Refusal(HTTPStatus.BAD_REQUEST, f"this is no JSON; found {printable(str(error))}") from error
    if not isinstance(record, dict) or not record.keys() <= {"text", "id"}:
        raise _Refusal(HTTPStatus.BAD_REQUEST, 'expected {"text": "…"}, and an "id" if you like')
    if "text" not in record:
        raise _Refusal(HTTPStatus.BAD_REQUEST, 'there is no "text"; expected {"text": "…"}')
    document = row_document(record, _COLUMNS, where="the request", default_id="request")
    return _with_text(document)


def _form_document(kind: str, body: bytes) -> Document:
    """Return the document of the page's form: the file if there is one, else the text."""
    header = f"Content-Type: {kind}\r\n\r\n".encode("latin-1", errors="replace")
    parts = {
        part.get_param("name", header="content-disposition"): part
        for part in BytesParser(policy=HTTP).parsebytes(header + body).walk()
        if not part.is_multipart()
    }
    name, source = "pasted text", parts.get("text")
    if "file" in parts and parts["file"].get_filename():
        name, source = str(parts["file"].get_filename()), parts["file"]
    content = source.get_payload(decode=True) if source is not None else b""
    text = decode(content if isinstance(content, bytes) else b"", name).removeprefix(BYTE_ORDER_MARK)
    # a form sends lines as the network does; documents are read as they stand in a file
    text = text.replace("\r\n", "\n")
    return _with_text(row_document({"text": text}, _COLUMNS, where=name, default_id=name))


def _with_text(document: Document) -> Document:
    if not shows_something(document.text):
        raise _Refusal(HTTPStatus.BAD_REQUEST, "the text is empty")
    return document
