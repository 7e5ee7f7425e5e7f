"""``textclf serve`` says what ``predict`` says, to requests of this machine only, and bounds them all."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from end_to_end.conftest import served

from textclf_transformer.commands import serve, serving
from textclf_transformer.commands.serving import ModelServer
from textclf_transformer.evaluation.loaded_run import LoadedRun, load_run
from textclf_transformer.evaluation.predict import predict

TEXT = "soil seed and the people who said that it was root leaf. " * 8
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def run(finetuned_folder: Path) -> LoadedRun:
    return load_run(finetuned_folder / "experiments" / "finetuning" / "ft")


@pytest.fixture(scope="module")
def server(run: LoadedRun) -> Iterator[ModelServer]:
    with served(run) as made:
        yield made


def ask(
    server: ModelServer,
    method: str,
    path: str,
    body: bytes | str | None = None,
    headers: Mapping[str, str] = JSON,
) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request(method, path, body, dict(headers))
    response = connection.getresponse()
    content = response.read().decode()
    connection.close()
    return response.status, content, response.headers


def form(fields: Mapping[str, tuple[str | None, bytes]]) -> tuple[bytes, dict[str, str]]:
    parts = []
    for name, (filename, content) in fields.items():
        file = "" if filename is None else f'; filename="{filename}"'
        parts.append(
            f'--edge\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content
        )
    return b"\r\n".join([*parts, b"--edge--\r\n"]), {"Content-Type": "multipart/form-data; boundary=edge"}


def error_of(content: str) -> str:
    assert content.count("\n") == 1
    return str(json.loads(content)["error"])


def test_json_is_what_predict_says(server: ModelServer, run: LoadedRun) -> None:
    status, content, headers = ask(server, "POST", "/predict", json.dumps({"text": TEXT, "id": "x"}))
    expected = predict(run, [TEXT], explain=True)
    row = dict(expected.iloc[0]) if hasattr(expected, "iloc") else expected[0]
    found = json.loads(content)
    assert status == 200 and found.pop("id") == "x" and found == {k: v for k, v in row.items() if k != "id"}
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_shows_text_and_file_alike(server: ModelServer) -> None:
    status, page, headers = ask(server, "GET", "/", headers={})
    assert status == 200 and "<form" in page and "<script" not in page and 'id="answer"' not in page
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    answers = []
    for fields in ({"text": (None, TEXT.encode()), "file": ("", b"")}, {"file": ("a.txt", TEXT.encode())}):
        status, page, _ = ask(server, "POST", "/", *form(fields))
        assert status == 200
        answers.append(re.findall(r'<div class="passage.*?</section>', page, re.DOTALL))
    assert answers[0] == answers[1] and len(answers[0]) == 4  # chunks; the run reads no more


def test_the_page_says_what_the_tokenizer_does_not_know(server: ModelServer) -> None:
    for text, is_unknown in (("soil soil soil", False), ("今日は良い天気です", True)):
        status, page, _ = ask(server, "POST", "/", *form({"text": (None, text.encode())}))
        assert status == 200 and ("of this text is unknown to the tokenizer" in page) is is_unknown


def test_the_page_says_where_the_text_goes(run: LoadedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer(run, host="127.0.0.1", port=0, quiet=True) as here:
        page = here.page().decode()
    assert "Nothing leaves this machine" in page
    longest = run.chunk_size - 2 + (run.max_chunks - 1) * run.stride
    assert f"reads up to {longest} tokens of a document, in {run.max_chunks} chunks" in page
    # as if this address were one that others reach
    monkeypatch.setattr(serving, "is_loopback", lambda host: False)
    with ModelServer(run, host="127.0.0.1", port=0, quiet=True) as elsewhere:
        page = elsewhere.page()
    assert b"Nothing leaves" not in page and b"without encryption" in page


def test_a_form_keeps_every_character_and_escapes_it(server: ModelServer) -> None:
    text = "Œil ☕ <script>alert(1)</script>\r\nsoil\r\n&amp; seed"
    status, page, _ = ask(server, "POST", "/", *form({"text": (None, text.encode())}))
    assert status == 200 and "<script" not in page
    textarea = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", page, re.DOTALL)
    assert textarea is not None
    assert textarea[1] == "Œil ☕ &lt;script&gt;alert(1)&lt;/script&gt;\nsoil\n&amp;amp; seed"


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        ("{", JSON, 400, "no JSON"),
        (b"\xff", JSON, 400, "not UTF-8"),
        ("[" * 100_000, JSON, 400, "no JSON"),
        ("[]", JSON, 400, 'expected {"text"'),
        ('{"text": "a", "label": 1}', JSON, 400, 'expected {"text"'),
        ('{"id": "a"}', JSON, 400, 'no "text"'),
        ('{"text": 1}', JSON, 400, "expected a string"),
        ('{"text": "\\ud800"}', JSON, 400, "half a pair"),
        ('{"text": " \\n"}', JSON, 400, "empty"),
        ('{"text": "\\u0001"}', JSON, 400, "empty"),
        ('{"text": "\\u0301"}', JSON, 400, "no tokens"),
        ('{"text": "soil"}', {"Content-Type": "text/plain"}, 415, "text/plain"),
        ('{"text": "soil"}', {}, 415, "expected application/json"),
        ('{"text": "soil"}', {**JSON, "Host": "evil.example"}, 421, "evil.example"),
        ('{"text": "soil"}', {**JSON, "Host": "127.0.0.1"}, 421, "not served"),
        ('{"text": "soil"}', {**JSON, "Origin": "http://evil.example"}, 403, "evil.example"),
        ('{"text": "soil"}', {**JSON, "Origin": "null"}, 403, "null"),
    ],
)
def test_a_faulty_request_is_one_line(
    server: ModelServer, body: bytes | str, headers: dict[str, str], status: int, words: str
) -> None:
    found, content, _ = ask(server, "POST", "/predict", body, headers)
    assert found == status and words in error_of(content)


def test_other_paths_and_methods(server: ModelServer) -> None:
    for method, path, status in [("GET", "/../etc/passwd", 404), ("POST", "/x", 404), ("PUT", "/", 405)]:
        found, content, headers = ask(server, method, path)
        assert found == status and error_of(content)
        assert headers["Allow"] == ("GET, POST" if status == 405 else None)
    assert ask(server, "HEAD", "/")[:2] == (405, "")
    own = {**JSON, "Host": f"localhost:{server.server_port}", "Origin": server.url.rstrip("/")}
    assert ask(server, "POST", "/predict", '{"text": "soil"}', own)[0] == 200
    assert ask(server, "GET", "/", headers={"Host": "evil.example"})[0] == 421


def test_the_size_of_a_request_is_bounded(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MAX_BODY_BYTES", 1000)
    for path, (body, headers) in {
        "/predict": (json.dumps({"text": "a" * 1000}).encode(), JSON),
        "/": form({"text": (None, b"a" * 1000)}),
    }.items():
        status, content, _ = ask(server, "POST", path, body, headers)
        assert status == 413 and "expected at most 1,000" in content
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as raw:
        host = f"127.0.0.1:{server.server_port}"
        raw.sendall(f"POST /predict HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        assert b" 411 " in raw.recv(100)


def test_a_fault_of_ours_is_one_line_too(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serving, "shown_documents", lambda *_: 1 / 0)
    status, content, _ = ask(server, "POST", "/predict", '{"text": "soil"}')
    assert status == 500 and "ZeroDivisionError" in error_of(content)
    assert "Traceback" in capsys.readouterr().err


def test_who_leaves_before_the_answer_is_no_fault(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    over = threading.Semaphore(0)
    close = server.shutdown_request

    def closing(request: Any) -> None:
        close(request)
        over.release()

    monkeypatch.setattr(server, "shutdown_request", closing)
    host = f"Host: 127.0.0.1:{server.server_port}\r\n"
    for request in (
        f"GET /nothing HTTP/1.1\r\n{host}\r\n",
        "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
        f"POST /predict HTTP/1.1\r\n{host}Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{{",
        "GET",
    ):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # hangs up, hard
            raw.sendall(request.encode())
    assert all(over.acquire(timeout=30) for _ in range(4))
    assert capsys.readouterr().err == ""


def test_what_cannot_be_served_is_refused(
    finetuned_folder: Path,
    server: ModelServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # what is served all the same is a failure here, and not a test that never ends
    monkeypatch.setattr(ModelServer, "serve_forever", None, raising=False)
    folder = f"{finetuned_folder}/experiments/finetuning/ft"
    for arguments, words in [
        (["--port", "65536"], "no port"),
        (["--host", "0.0.0.0"], "every address"),
        (["--host", "::"], "every address"),
        (["--host", "::ffff:0.0.0.0"], "every address"),
        (["--host", ""], "every address"),
        (["--host", "0"], "every address"),
        (["--port", str(server.server_port)], "cannot listen here"),
    ]:
        assert serve.main([folder, *arguments]) == 2
        # a thread of the other server may still have something to say; the command itself has one line
        lines = capsys.readouterr().err.splitlines()
        assert words in lines[-1]
        assert [line for line in lines if line.startswith("error: ")] == lines[-1:]


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_leaves_with_130(finetuned_folder: Path) -> None:
    folder = f"{finetuned_folder}/experiments/finetuning/ft"
    command = [sys.executable, "-m", "textclf_transformer", "serve", folder, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("page")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130 and error == "stopped\n"
