"""A small server of OpenAI's protocol that misbehaves on request; run as a program.

What it is asked says what it does: "die" after its first word, "mute" for good, anything else is
answered with three words. Flags say how it starts. With a `--device` it cannot start without that
file, and as that goes it does what `--lost` says.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not chip():
            self.reply({"error": {"message": "the engine is dead"}}, 503)
        elif self.path == "/readyz":
            self.reply({"status": "ready"})
        elif self.headers.get("Authorization") != f"Bearer {os.environ['BICAMERAL_KEYS']}":
            self.reply({"error": {"message": "no key"}}, 401)
        else:
            self.reply({"data": [{"id": given.serves, "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = body["messages"][-1]["content"]
        tell(f"asked {asked} with {self.headers['Authorization']}")
        if not chip():
            self.reply({"error": {"message": "CUDA error: device lost"}}, 500)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        if asked == "mute":
            time.sleep(3600)
        for word in ("well ", "hello ", "there"):
            self.say({"delta": {"content": word}, "index": 0})
            while asked == "wait" and chip():
                time.sleep(0.01)
            if asked == "die":
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(3600)
        self.say({"delta": {}, "index": 0, "finish_reason": "stop"})
        self.wfile.write(b"data: [DONE]\n\n")

    def say(self, choice: dict) -> None:
        chunk = {"id": "1", "object": "chat.completion.chunk", "model": "x", "choices": [choice]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def reply(self, told: dict, status: int = 200) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def chip() -> bool:
    """Whether it is there; if it has gone, what a server does then."""
    if given.device is None or given.device.exists():
        return True
    if given.lost == "die":
        os.kill(os.getpid(), signal.SIGABRT)
    if given.lost != "error":  # death may take a moment to reach every thread
        time.sleep(3600)
    return False


def starts() -> int:
    """How often it has been started, this one included."""
    count = int(given.count.read_text() or 0) + 1 if given.count.exists() else 1
    given.count.write_text(str(count))
    return count


flags = argparse.ArgumentParser()
flags.add_argument("--port", type=int)
flags.add_argument("--host", default="127.0.0.1")
flags.add_argument("--serves", default="m")
flags.add_argument("--say", default="")
flags.add_argument("--slow", type=float, default=0.0)
flags.add_argument("--exit", type=int)
flags.add_argument("--count", type=Path)
flags.add_argument("--exit-from", type=int, default=1)
flags.add_argument("--stubborn", action="store_true")
flags.add_argument("--child", type=Path)
flags.add_argument("--dump", type=Path)
flags.add_argument("--device", type=Path)
flags.add_argument("--lost", default="die", choices=("die", "hang", "error"))
given = flags.parse_args()

if __name__ == "__main__":
    if given.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if given.dump:
        given.dump.write_text(json.dumps([sys.argv, dict(os.environ)]))
    if given.child:
        sleeper = [sys.executable, "-c", "import time; time.sleep(3600)"]
        child = subprocess.Popen(sleeper, start_new_session=True)
        given.child.write_text(str(child.pid))
    if given.say:
        tell(given.say)
    if given.device and not given.device.exists():
        tell("RuntimeError: no CUDA-capable device is detected")
        sys.exit(1)
    time.sleep(given.slow)
    if given.exit is not None and (given.count is None or starts() >= given.exit_from):
        sys.exit(given.exit)
    ThreadingHTTPServer((given.host, given.port), Handler).serve_forever()
