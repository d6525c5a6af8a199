"""The tagger on real photographs, and around its net."""

from __future__ import annotations

import sys

import pytest

np = pytest.importorskip("numpy", reason="needs pip install 'bicameral[see]'")
pytest.importorskip("PIL", reason="needs pip install 'bicameral[see]'")

from bicameral.engines import tags  # noqa: E402
from bicameral.engines.weights import locate  # noqa: E402
from bicameral.errors import ConfigError, WeightsError  # noqa: E402


def tagger(**keys) -> tags.Tagger:
    pytest.importorskip("onnxruntime", reason="needs pip install 'bicameral[see]'")
    try:
        locate(tags.WEIGHTS)
    except WeightsError as error:
        pytest.skip(str(error))
    return tags.Tagger("tags", tags.Options(engine="tags", **keys))


@pytest.fixture(scope="module")
def photographs():
    """A Chinese palace and a flower, which come with scikit-learn."""
    data = pytest.importorskip("sklearn.datasets", reason="needs pip install 'bicameral[learn]'")
    return data.load_sample_images().images


def test_photographs_are_named(photographs):
    palace, flower = (tagger().look(image) for image in photographs)
    assert [tag.text for tag in palace] == ["palace"]
    assert [tag.text for tag in flower] == ["daisy"]
    assert all(tag.kind == "tag" and 0.3 <= tag.confidence <= 1 for tag in (*palace, *flower))


def test_tags_come_from_the_likeliest_and_at_most_so_many(photographs):
    found = tagger(floor=0.0, most=7).look(photographs[0])
    sure = [tag.confidence for tag in found]
    assert len(found) == 7
    assert sure == sorted(sure, reverse=True)
    assert sum(sure) <= 1


def test_nothing_is_told_of_a_blank_picture():
    assert tagger().look(np.full((300, 300, 3), 255, np.uint8)) == []


def test_what_lies_at_the_end_of_a_long_picture_is_seen(photographs):
    flower = photographs[1][:, 100:527]
    blank = np.full((427, 1200, 3), 200, np.uint8)
    net = tagger(floor=0.2)
    for wide in (np.hstack([blank, flower]), np.hstack([flower, blank])):
        assert "daisy" in [tag.text for tag in net.look(wide)]
        tall = np.rot90(wide)
        assert len(tags._views(tall)) == len(tags._views(wide)) == 4


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (224, 224), (300, 449), (17, 90)])
def test_views_fit_the_net_whatever_the_shape(shape):
    views = tags._views(np.full((*shape, 3), 127, np.uint8))
    assert 1 <= len(views) <= 5
    for view in views:
        assert view.shape == (1, 3, 224, 224)
        assert view.dtype == np.float32
        assert not view.any()


def test_the_names_are_those_of_the_net():
    names = tags.names()
    assert len(names) == len(set(names)) == 1000
    known = {0: "tench", 282: "tiger cat", 285: "Egyptian cat", 657: "missile", 872: "tripod"}
    assert {number: names[number] for number in known} == known
    assert names[967] == "espresso"


def test_other_weights_are_refused(tmp_path):
    other = tmp_path / "other.pth"
    other.write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="no PyTorch checkpoint"):
        tags.Tagger("tags", tags.Options(engine="tags", weights=str(other)))


async def test_weights_that_were_not_pulled_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("BICAMERAL_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="run `bicameral pull efficientnet-lite0`"):
        async with tags.open("tags", tags.Options(engine="tags")):
            pass


def test_a_missing_library_says_what_to_install(monkeypatch):
    tagger()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'bicameral\[see\]'"):
        tags.Tagger("tags", tags.Options(engine="tags"))
