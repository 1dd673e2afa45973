"""A web server for tests that serves bytes by range, and misbehaves as it is told, a number of times for each path."""

import re
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class RangeServer(ThreadingHTTPServer):
    """`files` are served by path; `faults` maps a path to the faults its next GET requests meet, in order."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.faults, self.headers, self.moved = {}, {}, {}, {}
        self.requests = []
        self.etag = '"one"'
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def counts(self):
        return Counter(method for method, _, _ in self.requests)

    def handle_error(self, request, client_address):
        """A client that hangs up is no news."""


@contextmanager
def serve():
    server = RangeServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        with self.server.lock:
            self.server.under_way += 1
            self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
        try:
            self.answer(body=True)
        finally:
            with self.server.lock:
                self.server.under_way -= 1

    def answer(self, body):
        server, path = self.server, self.path
        with server.lock:
            server.requests.append((self.command, path, dict(self.headers)))
            waiting = server.faults.get(path, [])
            fault = waiting.pop(0) if body and waiting else None
        if isinstance(fault, tuple):
            return self.plain(fault[0], b"later", {"Retry-After": fault[1]})
        if fault == "reset":
            self.close_connection = True
            return self.connection.close()
        if path in server.moved:
            return self.plain(302, b"", {"Location": server.moved[path], "X-Linked-Etag": server.etag})
        if path not in server.files:
            return self.plain(404, b"no such file", {})
        if fault == "slow":
            time.sleep(0.2)
        data = server.files[path]
        extra = {"ETag": server.etag, **server.headers.get(path, {})}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None or fault == "whole":
            return self.plain(200, data, extra, body=body)
        start, stop = int(asked[1]), min(int(asked[2] or len(data)) + 1, len(data))
        if start >= len(data):
            return self.plain(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        if fault == "wrong":
            start, stop = start + 7, stop + 7
        piece = data[start:stop]
        self.send_response(206)
        for name, value in {**extra, "Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(piece)))
        self.end_headers()
        if fault == "cut":
            self.wfile.write(piece[: len(piece) // 2])
            self.wfile.flush()
            self.close_connection = True
            return self.connection.close()
        self.wfile.write(piece)

    def plain(self, status, data, headers, body=True):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)
