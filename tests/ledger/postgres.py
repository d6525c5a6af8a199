"""A private PostgreSQL server in a temporary folder, on a socket of its own, for the tests here."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

USER, PASSWORD = "bicameral", "p+ss%40w0rd-secret"
_FAST = ("fsync=off", "full_page_writes=off", "max_connections=60", "shared_buffers=16MB")


def binaries() -> Path | None:
    """Where Debian's package puts the server's programs; None if it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


class Server:
    """It may be killed and started again; what was committed is still there."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        # Not pytest's own folder: that is closed to the user whom the server runs as.
        self.folder = Path(tempfile.mkdtemp(prefix="bic-pg-"))
        self._data = self.folder / "data"
        if os.geteuid() == 0:
            os.chown(self.folder, _other(), -1)
        word = self.folder / "password"
        word.write_text("p+ss@w0rd-secret\n")
        word.chmod(0o644)
        options = ["-D", self._data, "-U", USER, "--auth=scram-sha-256", f"--pwfile={word}"]
        self._run("initdb", *options, "--encoding=UTF8", "--locale=C", "--no-sync").wait()
        self.start()

    def start(self) -> None:
        """Returns when it takes connections."""
        settings = (f"-c{s}" for s in (*_FAST, "listen_addresses="))
        options = ["-D", self._data, "-k", self.folder, *settings]
        self._process = self._run("postgres", *options)
        end = time.monotonic() + 60
        ready = [self._programs / "pg_isready", "-q", "-h", self.folder]
        while subprocess.run(ready, check=False).returncode:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """By SIGQUIT it ends at once, as in a crash: it recovers when it starts again."""
        self._process.send_signal(how)
        self._process.wait()

    def close(self) -> None:
        """Nothing is left of it."""
        self.stop()
        shutil.rmtree(self.folder)

    def url(self, database: str, password: str = PASSWORD) -> str:
        """Of one of its databases."""
        return f"postgresql://{USER}:{password}@/{database}?host={self.folder}"

    def database(self) -> str:
        """A new one's URL."""
        name = f"book_{secrets.token_hex(6)}"
        # Its log holds the whole new database otherwise, which takes half as long again.
        self.execute(f"CREATE DATABASE {name} STRATEGY FILE_COPY", "postgres")
        return self.url(name)

    def execute(self, statement: str, database: str) -> None:
        """Run `statement`, each time in a connection of its own."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)

    def _run(self, program: str, *options: object) -> subprocess.Popen[bytes]:
        """As another user if we are root, whom PostgreSQL refuses."""
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self._programs / program, *map(str, options)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=_other() if os.geteuid() == 0 else None,
                extra_groups=[] if os.geteuid() == 0 else None,
            )


def _other() -> int:
    names = {user.pw_name: user.pw_uid for user in pwd.getpwall()}
    return names.get("postgres", names["nobody"])
