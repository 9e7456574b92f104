"""Searching by picture and by clip: what a video shows finds that video first."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from thorough import amount, cases
from token_corpus import DIM, naive_scores, random_bags, unit_tokens

from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video.errors import SettingsError, VideoError
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.scan.index_reader import IndexReader
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.indexing.scan.scan import search_segment
from colbert_video.model.tokens import TokenBags
from colbert_video.search.asking.bagwise import search_bagwise
from colbert_video.search.queries import clip_query, image_query, read_picture
from colbert_video.training.world import WorldClip, write_world
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.workers.pool import FramePool

CLIPS = amount(6, thorough=12)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> list[WorldClip]:
    return write_world(
        tmp_path_factory.mktemp("media") / "clips", count=CLIPS, seed=21, split="test", paired_fraction=0.0
    )


@pytest.fixture(scope="module", params=cases(["toy", "untrained"], thorough=["trained"]))
def searcher(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    world: list[WorldClip],
    tiny_trained_model: VideoColBERT,
    tiny_model: VideoColBERT,
) -> Iterator[Searcher]:
    """Indexes by the toy checkpoint and by random weights, with both bags and with the frame bag alone."""
    random_weights = {"trained": tiny_trained_model, "untrained": tiny_model}
    model = random_weights.get(request.param) or VideoColBERT.from_pretrained("toy", device="cpu")
    path = tmp_path_factory.mktemp("media") / request.param
    Indexer(path, model=model, workers=1).index(world[0].path.parent)
    with Searcher(path, model=model) as opened:
        yield opened


def frames_of(clip: WorldClip, searcher: Searcher, size: int = 96) -> SampledFrames:
    """The frames that the index holds of a clip, as large as they are in the file."""
    count = searcher.model.config.num_frames
    return read_frames(str(clip.path), SamplingSettings(num_frames=count, height=size, width=size))


def test_a_frame_finds_its_video(searcher: Searcher, world: list[WorldClip]) -> None:
    """Where two videos share a picture, as at a start or end, both score 1: so the middle is taken."""
    right = 0
    for clip in world:
        frames = frames_of(clip, searcher)
        middle = len(frames) // 2
        hit = searcher.search_image(frames.pixels[middle], k=1)[0]
        right += hit.id == clip.path.name
        assert hit.video_score is None
        assert hit.score == hit.frame_score
        if hit.id == clip.path.name:
            assert hit.score > 0.95
            assert hit.start <= frames.times[middle] < hit.end
    assert right == CLIPS


def test_a_clip_finds_itself(searcher: Searcher, world: list[WorldClip]) -> None:
    for clip in world:
        hit = searcher.search_video(clip.path, k=2)[0]
        assert hit.id == clip.path.name
        assert hit.frame_score > 0.97
        if searcher.model.config.trained:
            assert hit.video_score > 0.97
            assert hit.score == pytest.approx(hit.frame_score + hit.video_score, abs=1e-5)
        else:
            assert (hit.video_score, hit.score) == (None, hit.frame_score)


def test_part_of_a_clip_finds_it(searcher: Searcher, world: list[WorldClip]) -> None:
    right = sum(searcher.search_video(clip.path, k=1, window=(0.5, 2.5))[0].id == clip.path.name for clip in world)
    assert right >= CLIPS - 1


def test_filters_ids_and_exactness_hold_for_pictures_and_clips(searcher: Searcher, world: list[WorldClip]) -> None:
    names = [clip.path.name for clip in world[3:6]]
    picture = frames_of(world[0], searcher).pixels[0]
    assert {hit.id for hit in searcher.search_image(picture, ids=names)} == set(names)
    assert {hit.id for hit in searcher.search_video(world[0].path, ids=names)} == set(names)
    assert [hit.id for hit in searcher.search_video(world[0].path, where={"id": names[0]})] == names[:1]
    exact = searcher.search_video(world[0].path, exact=True)
    quick = searcher.search_video(world[0].path)
    assert [hit.id for hit in exact] == [hit.id for hit in quick]
    assert [hit.score for hit in exact] == pytest.approx([hit.score for hit in quick], abs=1e-5)


def test_pictures_come_in_many_forms(searcher: Searcher, world: list[WorldClip], tmp_path: Path) -> None:
    pixels = frames_of(world[1], searcher).pixels[2]
    image = Image.fromarray(pixels)
    image.save(tmp_path / "frame.png")
    expected = searcher.search_image(pixels)
    assert searcher.search_image(image) == expected
    assert searcher.search_image(tmp_path / "frame.png") == expected
    assert searcher.search_image(str(tmp_path / "frame.png")) == expected
    assert len(searcher.search_image(image.convert("L"), k=3)) == 3


def test_pictures_are_read_upright_and_in_rgb(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[0, 0] = 255, 0, 0
    image = Image.fromarray(pixels)
    turned = Image.Exif()
    turned[0x0112] = 6  # shown turned by a quarter
    image.save(tmp_path / "turned.png", exif=turned)
    upright = np.asarray(read_picture(tmp_path / "turned.png"))
    assert upright.shape == (6, 4, 3)
    assert upright[0, 3].tolist() == [255, 0, 0]
    image.convert("P").save(tmp_path / "palette.gif")
    assert np.asarray(read_picture(tmp_path / "palette.gif")).shape == (4, 6, 3)
    given = image.copy()
    given.getexif()[0x0112] = 6
    assert read_picture(given).size == (4, 6)
    assert (given.size, given.getexif()[0x0112]) == ((6, 4), 6)  # the caller's stays as it was


def test_a_picture_is_resized_before_the_model_takes_it(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model could do it, on numbers of four bytes, in memory that large pictures fill; the tokens are the same."""
    pixels = np.tile(np.arange(250, dtype=np.uint8)[:, None, None], (2, 400, 3))
    by_model = searcher.model.encode_videos([pixels[None]]).frame[0]
    given: list[tuple[int, ...]] = []
    original = VideoColBERT.encode_videos

    def noted(model: VideoColBERT, videos: list[np.ndarray]) -> TokenBags:
        given.extend(video.shape for video in videos)
        return original(model, videos)

    monkeypatch.setattr(VideoColBERT, "encode_videos", noted)
    with searcher._view() as view:
        (query,) = image_query(searcher.model, pixels, view.reader.settings).values()
    wanted = searcher.model.config.preprocess
    assert given == [(1, wanted.height, wanted.width, 3)]
    assert float(torch.cosine_similarity(query.tokens, by_model)) > 0.999


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words.jpg").write_text("no picture")
    with pytest.raises(SettingsError, match=r"words.jpg' is not a picture that can be read: give JPEG, PNG"):
        read_picture(tmp_path / "words.jpg")
    with pytest.raises(SettingsError, match="there is no image file"):
        read_picture(tmp_path / "gone.jpg")
    for pixels, given in [
        (np.full((4, 4, 3), 255.0), r"float64 of shape \(4, 4, 3\)"),
        (np.full((4, 4, 3), np.nan), r"float64 of shape \(4, 4, 3\)"),
        (np.zeros((4, 4), np.uint8), r"uint8 of shape \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"uint8 of shape \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8 of shape \(0, 4, 3\)"),
        (np.zeros((4, 4, 3), np.int64), r"int64 of shape \(4, 4, 3\)"),
        (torch.zeros(1, 3, 4, 4), r"float32 of shape \(1, 3, 4, 4\)"),
    ]:
        with pytest.raises(SettingsError, match=rf"{given}; give RGB pixels"):
            read_picture(pixels)
    for image in (None, 7, ["a.png"], object()):
        with pytest.raises(SettingsError, match="is not an image; give a file's name"):
            read_picture(image)


def test_a_picture_may_come_in_any_form(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    channels_first = torch.from_numpy(pixels).permute(2, 0, 1)
    forms = [
        tmp_path / "a.png", str(tmp_path / "a.png"), content, bytearray(content), memoryview(content), io.BytesIO(content),
        Image.open(tmp_path / "a.png"), pixels, np.asfortranarray(pixels), pixels[::-1][::-1], channels_first,
        torch.from_numpy(pixels), channels_first.float() / 255, channels_first.double() / 255, pixels.transpose(2, 0, 1),
        pixels / 255, (pixels / 255).astype(">f4"), torch.nn.Parameter(channels_first.float() / 255),
    ]  # fmt: skip
    pixels.flags.writeable = False
    for form in [*forms, pixels]:
        assert np.array_equal(np.array(read_picture(form)), pixels)
    with (tmp_path / "a.png").open("rb") as file:
        assert np.array_equal(np.array(read_picture(file)), pixels)


def test_an_error_shows_no_more_than_a_line_of_a_picture() -> None:
    with pytest.raises(SettingsError, match="what was given is not a picture that can be read") as raised:
        read_picture(b"\x00" * 100_000)
    assert len(str(raised.value)) < 500


def test_damaged_exif_data_cost_no_picture(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4), (200, 0, 0)).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0")
    assert read_picture(tmp_path / "a.png").size == (6, 4)


def test_a_clip_that_cannot_be_read_is_refused(searcher: Searcher, tmp_path: Path) -> None:
    (tmp_path / "words.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"words\.mp4"):
        searcher.search_video(tmp_path / "words.mp4")
    with pytest.raises(SettingsError, match="k=0"):
        searcher.search_video(tmp_path / "words.mp4", k=0)


@pytest.mark.parametrize("exact", [True, False])
def test_bags_with_queries_of_their_own_are_scored_as_defined(tmp_path: Path, exact: bool) -> None:
    ids = [f"v{number}" for number in range(400)]
    frame, video = random_bags(400, seed=1), random_bags(400, seed=2)
    Indexer(tmp_path / "i", dim=DIM, nbits=8).index_tokens(ids, frame, video)
    queries = {"frame": unit_tokens(3, DIM, seed=3), "video": unit_tokens(5, DIM, seed=4)}
    naive = torch.tensor(naive_scores(queries["frame"], frame)) + torch.tensor(naive_scores(queries["video"], video))
    reader = IndexReader.open(tmp_path / "i")
    segment = reader.segments[0]
    allowed = torch.ones(400, dtype=torch.bool)
    allowed[naive.argmax()] = False
    found = search_bagwise(
        search_segment,
        segment,
        reader.codecs(segment),
        {bag: PreparedQuery(tokens) for bag, tokens in queries.items()},
        k=20,
        allowed=allowed,
        exact=exact,
    )
    reader.close()
    assert len(found.rows) == 20
    assert int(naive.argmax()) not in found.rows.tolist()
    assert found.total.tolist() == pytest.approx(naive[found.rows].tolist(), abs=0.01)
    assert sum(found.bags.values()).tolist() == pytest.approx(found.total.tolist())
    if exact:
        best = naive.masked_fill(~allowed, -9).sort(descending=True)
        assert found.total.tolist() == pytest.approx(best.values[:20].tolist(), abs=0.01)


@pytest.mark.parametrize("size", [(2**15 + 1, 1), (1, 2**15 + 1)])
def test_pictures_with_a_side_that_takes_gigabytes_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size)
    picture.save(tmp_path / "long.png")
    for given in (picture, tmp_path / "long.png", np.asarray(picture)):
        with pytest.raises(SettingsError, match=f"{size[0]}×{size[1]} pixels; give one of at most 32768 on each side"):
            read_picture(given)
    assert read_picture(Image.new("RGB", (2**15, 1))).size == (2**15, 1)


@pytest.mark.parametrize(("stream", "read"), [(None, [None]), (0, [0]), (1, [1, None])])
def test_the_default_stream_is_read_where_a_clip_lacks_that_of_the_index(
    stream: int | None,
    read: list[int | None],
    world: list[WorldClip],
    tiny_trained_model: VideoColBERT,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, submit = [], FramePool._submit
    monkeypatch.setattr(FramePool, "_submit", lambda pool, one: asked.append(one.stream) or submit(pool, one))
    settings = IndexSettings(dim=tiny_trained_model.dim, bags=("frame", "video"), video_stream=stream)
    assert set(clip_query(tiny_trained_model, world[0].path, settings, window=None)) == {"frame", "video"}
    assert asked == read
