"""An S3 on this machine: s3s-fs, which keeps objects as files, and what flow asks of an account besides.

flow also asks who the caller is and who may approve; s3s-fs knows neither, a small server here does.
"""
import http.server
import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret", "AWS_REGION": "us-east-1"}


class Server:
    """s3s-fs, and what there is besides in an account; both on free ports."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.account: http.server.ThreadingHTTPServer | None = None

    def start(self, program: str, root: Path) -> None:
        root.mkdir()
        self.account = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Account)
        threading.Thread(target=self.account.serve_forever, daemon=True).start()
        with http.server.HTTPServer(("127.0.0.1", 0), Account) as probe:
            self.port = probe.server_address[1]
        keys = ["--access-key", KEYS["AWS_ACCESS_KEY_ID"], "--secret-key", KEYS["AWS_SECRET_ACCESS_KEY"]]
        self.process = subprocess.Popen(
            [program, *keys, "--host", "127.0.0.1", "--port", str(self.port), str(root)],
            env={**os.environ, "RUST_LOG": "error"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 20
        while not self.answers():
            if time.monotonic() > until or self.process.poll() is not None:
                raise RuntimeError("s3s-fs does not start")
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=1)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    @property
    def s3(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def endpoints(self) -> dict[str, str]:
        assert self.account
        return {"AWS_ENDPOINT_URL_S3": self.s3, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.account.server_address[1]}"}

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
        if self.account:
            self.account.shutdown()
            self.account.server_close()
            self.account = None


class Account(http.server.BaseHTTPRequestHandler):
    """The rest of an AWS account, as far as flow asks: who the caller is, and no record of approvers."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("X-Amz-Target", "") == "AmazonSSM.GetParameter":
            self.answer(400, "application/x-amz-json-1.1", '{"__type": "ParameterNotFound"}')
        else:
            self.answer(200, "text/xml", IDENTITY)

    def answer(self, status: int, kind: str, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        del format, args


IDENTITY = (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
    "<Arn>arn:aws:iam::000000000000:user/bench</Arn><UserId>bench</UserId><Account>000000000000</Account>"
    "</GetCallerIdentityResult></GetCallerIdentityResponse>"
)
