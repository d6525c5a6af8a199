from __future__ import annotations

import mmap
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from bicameral.callosum import segment
from bicameral.callosum.pool import Pool, PoolFull
from bicameral.callosum.tensor import SIZES, TensorError

MB = 2**20


@pytest.fixture
def pool():
    pool = Pool(MB)
    yield pool
    pool.close()


def array_of(dtype: str) -> np.ndarray:
    return (np.arange(24).reshape(2, 3, 4) % 2).astype(dtype)


@pytest.mark.parametrize("dtype", SIZES)
def test_every_dtype_comes_back_equal(pool: Pool, dtype: str) -> None:
    array = array_of(dtype)
    view = pool.view(pool.put(array))
    assert view.dtype == array.dtype
    np.testing.assert_array_equal(view, array)


@pytest.mark.parametrize(
    "array",
    [
        np.float32(3.5),
        np.zeros((0, 3), "int16"),
        np.arange(24.0).reshape(4, 6)[::2, ::-3],
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(5, dtype=">i4"),
    ],
    ids=["0-d", "empty", "strided", "column order", "big-endian"],
)
def test_every_layout_comes_back_equal(pool: Pool, array: np.ndarray) -> None:
    view = pool.view(pool.put(array))
    assert view.shape == array.shape
    np.testing.assert_array_equal(view, array)


def test_filled_in_place_it_is_the_same_memory_and_no_copy(pool: Pool) -> None:
    with pool.loan((100, 100), "float32") as loan:
        loan.array[:] = 7
        tensor = loan.seal()
    view = pool.view(tensor)
    assert np.shares_memory(view, loan.array)
    assert (view == 7).all()
    assert pool.stats().copies == 0
    assert not view.flags.writeable
    assert not loan.array.flags.writeable


def test_a_put_is_a_copy_and_counted(pool: Pool) -> None:
    pool.put(np.zeros(1000, "uint8"))
    pool.put_bytes(b"x" * 500)
    assert (pool.stats().copies, pool.stats().bytes_copied) == (2, 1500)


def test_dlpack_shares_the_memory(pool: Pool) -> None:
    view = pool.view(pool.put(np.arange(10)))
    other = np.from_dlpack(view)
    assert np.shares_memory(other, view)
    assert not other.flags.writeable


def test_torch_takes_it_without_a_copy(pool: Pool) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    with pool.loan((10,), "float32") as loan:
        tensor = torch.from_dlpack(loan.array)
        tensor += 1
        loan.seal()
    assert (pool.view(loan.tensor) == tensor.numpy()).all()
    assert tensor.data_ptr() == loan.array.ctypes.data


@pytest.mark.parametrize("dtype", ["object", "U4", "datetime64", "O", ""])
def test_what_raw_memory_cannot_hold_is_refused(pool: Pool, dtype: str) -> None:
    with pytest.raises(TensorError, match="cannot be handed over"):
        pool.loan((1,), dtype)


@pytest.mark.parametrize("shape", [(-1,), (2, -3), (1,) * 33])
def test_a_shape_no_array_has_is_refused(pool: Pool, shape: tuple[int, ...]) -> None:
    with pytest.raises(TensorError, match="no array"):
        pool.loan(shape, "uint8")


def test_a_released_block_is_lent_out_again(pool: Pool) -> None:
    first = pool.put(np.zeros(1000, "uint8"))
    pool.release(first)
    assert pool.put(np.zeros(1000, "uint8")).offset == first.offset
    assert pool.stats().leases == 1


def test_it_stays_until_the_last_hold_is_released(pool: Pool) -> None:
    tensor = pool.hold(pool.put(np.zeros(1000, "uint8")))
    pool.release(tensor)
    assert pool.stats().leases == 1
    pool.release(tensor)
    assert pool.stats().leases == 0


def test_a_second_release_is_an_error(pool: Pool) -> None:
    tensor = pool.put(np.zeros(8))
    pool.release(tensor)
    for use in (pool.release, pool.view, pool.hold):
        with pytest.raises(TensorError, match="released already"):
            use(tensor)


def test_a_handle_of_another_pool_is_refused(pool: Pool) -> None:
    tensor = pool.put(np.zeros(8))
    other = Pool(MB)
    other.put(np.ones(8))
    with pytest.raises(TensorError, match="another pool"):
        other.view(tensor)
    other.close()


def test_an_abandoned_loan_is_given_back(pool: Pool) -> None:
    with pytest.raises(ZeroDivisionError), pool.loan((1000,), "uint8"):
        raise ZeroDivisionError
    assert pool.stats().used == 0


def test_a_full_pool_refuses_and_says_what_to_do(pool: Pool) -> None:
    pool.loan((MB - 4096,), "uint8")
    with pytest.raises(PoolFull, match="release what was read, or raise the limit"):
        pool.loan((8192,), "uint8", timeout=0.02)
    assert pool.stats().refused == 1
    assert pool.stats().peak <= MB


def test_what_never_fits_is_refused_at_once(pool: Pool) -> None:
    with pytest.raises(PoolFull, match="never fit"):
        pool.loan((MB + 1,), "uint8", timeout=1000)


def test_a_full_pool_blocks_until_there_is_room(pool: Pool) -> None:
    tensor = pool.put(np.zeros(MB, "uint8"))

    def later() -> None:
        while not pool.stats().waits:
            time.sleep(0.001)
        pool.release(tensor)

    thread = threading.Thread(target=later)
    thread.start()
    loan = pool.loan((MB,), "uint8", timeout=30)
    thread.join()
    assert loan.tensor.offset == 0
    assert pool.stats().waits == 1


def test_many_threads_never_share_a_block(pool: Pool) -> None:
    wrong = []

    def work(number: int) -> None:
        for _ in range(200):
            with pool.loan((5000,), "uint8", timeout=30) as loan:
                loan.array[:] = number
                tensor = loan.seal()
            if not (pool.view(tensor) == number).all():
                wrong.append(number)
            pool.release(tensor)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert pool.stats().used == 0


def test_readers_can_neither_write_nor_cut_it(pool: Pool) -> None:
    tensor = pool.put(np.arange(8))
    fd = os.dup(pool.fd)
    with pytest.raises(OSError, match="not permitted"):
        os.ftruncate(pool.fd, 1)
    with pytest.raises(OSError, match="not permitted"):
        mmap.mmap(pool.fd, pool.limit, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    view = np.frombuffer(segment.attach(fd, pool.limit), "int64", 8, tensor.offset)
    np.testing.assert_array_equal(view, np.arange(8))
    assert not view.flags.writeable


def test_a_descriptor_that_is_no_segment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(4096))
    with pytest.raises(segment.SegmentError):
        segment.attach(os.open(path, os.O_RDONLY), 4096)


def test_memory_that_cannot_be_had_is_an_error_of_ours() -> None:
    with pytest.raises(segment.SegmentError, match="lower the limit"):
        Pool(2**50)


def test_a_closed_pool_leaves_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    Pool(MB).close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_memfd_it_is_a_file_without_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pool = Pool(MB)
    tensor = pool.put(np.arange(8))
    view = np.frombuffer(segment.attach(os.dup(pool.fd), pool.limit), "int64", 8, tensor.offset)
    np.testing.assert_array_equal(view, np.arange(8))
    assert list(tmp_path.iterdir()) == []
    pool.close()
