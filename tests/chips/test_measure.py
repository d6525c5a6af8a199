"""Measuring this machine's CPU, and what is remembered of it."""

from __future__ import annotations

from threading import BrokenBarrierError

import pytest
from msgspec.structs import replace

from bicameral.chips.find import here
from bicameral.chips.measure import (
    Measured,
    _bandwidth,
    _key,
    _remember,
    _size,
    measure,
    remembered,
)
from bicameral.chips.probes.device import Cache, Cpu, Device
from bicameral.errors import ChipError

pytest.importorskip("numpy")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def small() -> Device:
    """This CPU with little memory free, so that measuring it is quick."""
    return replace(here()[0].device, free_gb=0.5)


def made_up() -> Measured:
    return Measured(
        when="2026-11-20T10:00:00+00:00",
        how="made up",
        threads=1,
        read_gbs=2.0,
        copy_gbs=1.0,
        one_read_gbs=2.0,
        one_copy_gbs=1.0,
        tflops=0.1,
        blas="none",
        numpy="2",
        mib=1,
    )


def test_this_cpu_is_measured_and_remembered(tmp_path) -> None:
    device = small()
    assert remembered(device) is None
    found = measure(device)
    for rate in (found.read_gbs, found.copy_gbs, found.one_read_gbs, found.one_copy_gbs):
        assert 0.2 < rate < 2000  # the processors may be shared with other tests
    assert found.bandwidth_gbs == max(found.read_gbs, found.copy_gbs)
    assert 0.0001 < found.tflops < 1000
    assert found.blas
    assert found.when.startswith("20")
    assert remembered(device) == found
    assert here()[0].measured == found
    assert [file.name for file in (tmp_path / "bicameral").iterdir()] == ["chips.json"]


@pytest.mark.parametrize("threads", [1, 2])
def test_too_little_memory_is_told_and_no_thread_waits_for_ever(monkeypatch, threads) -> None:
    monkeypatch.setattr("bicameral.chips.measure._size", lambda device: 2**60)
    device = small()
    assert device.cpu is not None
    with pytest.raises(ChipError, match="more memory than is free"):
        measure(replace(device, cpu=replace(device.cpu, may_use=threads)))
    with pytest.raises((MemoryError, BrokenBarrierError)):
        _bandwidth(2**60, threads, 1)


def test_another_cpu_another_share_and_another_limit_are_measured_anew(monkeypatch) -> None:
    device = small()
    _remember(_key(device), made_up())
    assert remembered(device) == made_up()
    assert device.cpu is not None
    fewer = replace(device, cpu=replace(device.cpu, may_use=device.cpu.may_use / 2))
    assert remembered(fewer) is None
    assert remembered(replace(device, name="another")) is None
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "63")
    assert remembered(device) is None


def test_a_broken_cache_file_is_as_good_as_none(tmp_path) -> None:
    file = tmp_path / "bicameral" / "chips.json"
    file.parent.mkdir()
    file.write_text("{", encoding="utf-8")
    assert remembered(small()) is None
    _remember(_key(small()), made_up())
    assert remembered(small()) == made_up()


@pytest.mark.parametrize(
    ("free", "cache", "mib"), [(64, 32, 128), (64, 512, 1024), (64, 4096, 2048), (1, 512, 59)]
)
def test_arrays_are_beyond_the_cache_but_within_memory(free, cache, mib) -> None:
    level = Cache(level=3, kind="unified", size=cache * 2**20, count=1)
    cpu = Cpu(sockets=1, cores=4, threads=4, may_use=4, numa_nodes=1, isa=(), caches=(level,))
    device = Device(vendor="x", name="x", index=0, told_by="x", free_gb=free, cpu=cpu)
    assert _size(device) == mib * 2**20
