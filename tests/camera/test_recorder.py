from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from pspnet_edge.camera.overlay import Overlay
from pspnet_edge.camera.recorder import Recorder
from pspnet_edge.camera.shot import Shot
from pspnet_edge.errors import OptionError, OutputError
from pspnet_edge.labels import CAMVID, IGNORE

OVERLAY = Overlay(CAMVID, opacity=0)


class File:
    name, live, fps = "file", False, 25.0

    def read(self) -> None:
        return None

    def close(self) -> None:
        pass


class Camera(File):
    live = True


def shot(index: int, level: int = 0, size_hw: tuple[int, int] = (49, 65), camera: int = 0) -> Shot:
    frame = np.full((*size_hw, 3), level, np.uint8)
    mask = np.full((8, 8), IGNORE, np.uint8)
    return Shot(camera, index, frame, mask, time.perf_counter(), OVERLAY)


def fail(sentence: str) -> None:
    raise AssertionError(sentence)


def frames_in(path: Path) -> int:
    return len(pictures_in(path))


def pictures_in(path: Path) -> list[np.ndarray]:
    """What can be decoded of a recording, by PyAV: pip's OpenCV 5 sometimes reads fewer frames than there are."""
    pictures = []
    with contextlib.suppress(av.FFmpegError), av.open(str(path)) as container:
        for frame in container.decode(video=0):
            pictures.append(frame.to_ndarray(format="bgr24"))
    return pictures


def test_every_picture_of_a_file_is_in_the_video(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with Recorder(path, [File()], fail) as recorder:
        for index in range(60):
            assert recorder.show(shot(index, 4 * index, (241, 321)))
    with av.open(str(path)) as container:
        levels = [frame.to_ndarray(format="bgr24")[60:100, 250:].mean() for frame in container.decode(video=0)]
    assert len(levels) == 60
    np.testing.assert_allclose(levels, np.arange(0, 240, 4), atol=4)
    with av.open(str(path)) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    np.testing.assert_allclose(np.diff(times), 1 / 25, atol=2e-3)


def test_a_camera_plays_as_fast_as_it_was_seen(tmp_path: Path) -> None:
    seen_s = []
    with Recorder(tmp_path / "v.mp4", [Camera()], fail) as recorder:
        for index, pause_s in enumerate((0.1, 0.1, 0.4, 0.1)):
            taken = shot(index)
            seen_s.append(taken.captured)
            recorder.show(taken)
            time.sleep(pause_s)
        again = shot(4).again("", "STALE 1 s: gone")
        before_s = time.perf_counter()
        recorder.show(again)
        after_s = time.perf_counter()
    with av.open(str(tmp_path / "v.mp4")) as container:
        played_s = [float(frame.time) for frame in container.decode(video=0)]
    # The first picture is at 0; an old picture that is shown again has the time at which that was.
    np.testing.assert_allclose(played_s[:4], np.subtract(seen_s, seen_s[0]), atol=0.06)
    assert before_s - seen_s[0] - 0.06 <= played_s[4] <= after_s - seen_s[0] + 0.06


def test_several_sources_have_a_file_each(tmp_path: Path) -> None:
    with Recorder(tmp_path / "v.mp4", [File(), File()], fail) as recorder:
        for index in range(3):
            recorder.show(shot(index, camera=0))
        recorder.show(shot(0, camera=1))
    assert [frames_in(tmp_path / name) for name in ("v-0.mp4", "v-1.mp4")] == [3, 1]


def test_pictures_of_another_size_keep_their_shape(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    sizes = [(64, 96), (128, 192), (96, 64), (49, 97), (32, 96)]
    with Recorder(path, [File()], fail) as recorder:
        for index, size_hw in enumerate(sizes):
            recorder.show(shot(index, 200, size_hw))
    pictures = pictures_in(path)
    assert [picture.shape for picture in pictures] == [(64, 96, 3)] * len(sizes)
    lit = [picture.max(2) > 100 for picture in pictures]
    share = [float(one.mean()) for one in lit]
    # The legend at the top is dark too, and left for it is a quarter of the picture.
    for is_lit, expected in zip(share, (1, 1, 4 / 9, 0.76, 0.5)):
        assert expected - 0.25 < is_lit < expected + 0.06
    for beside in (lit[2][:, :20], lit[2][:, -20:], lit[4][:12], lit[4][-12:]):
        assert not beside.any()


def test_the_name_may_hold_the_time(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "cam-%Y.mp4", [File()], fail)
    assert recorder.paths == [tmp_path / time.strftime("cam-%Y.mp4")]


def test_a_place_that_takes_no_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder: give the name of a file in it"):
        Recorder(Path(), [File()], fail)
    with pytest.raises(OptionError, match="does not end in"):
        Recorder(tmp_path / "v.txt", [File()], fail)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        Recorder(tmp_path / "file" / "v.mp4", [File()], fail)


def test_a_full_disk_ends_the_recording_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_device: Path
) -> None:
    path, full = tmp_path / "v.mp4", tmp_path / "full.mp4"
    full.symlink_to(full_device)
    monkeypatch.setattr("pspnet_edge.camera.recorder.find_target", lambda path: full)
    said: list[str] = []
    with Recorder(path, [File()], said.append) as recorder:
        for index in range(80):
            assert recorder.show(shot(index, 3 * index))
    assert len(said) == 1
    assert "No space left on device" in said[0]


def test_a_disk_that_fills_leaves_what_was_written(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk; it needs a process of its own."""
    code = """
import resource, signal, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
import test_recorder as t
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
said = []
with t.Recorder(Path(sys.argv[1]), [t.File()], said.append) as recorder:
    for index in range(200):
        made = t.shot(index, size_hw=(120, 160))
        made.frame[:] = np.random.default_rng(index).integers(0, 255, made.frame.shape)
        recorder.show(made)
print(len(said))
"""
    path = tmp_path / "v.mp4"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(Path(__file__).parent)], capture_output=True, text=True
    )
    assert done.stdout == "1\n", done.stderr
    assert frames_in(path) >= 2


def killed_after(path: Path, seconds: float) -> int:
    """Record in a process that is killed; how many pictures had been given to the recorder by then."""
    code = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_recorder as t
with t.Recorder(Path(sys.argv[1]), [t.Camera()], t.fail) as recorder:
    for index in range(10**6):
        recorder.show(t.shot(index, index % 250, (120, 160)))
        print(index + 1, flush=True)
        time.sleep(0.02)
"""
    command = [sys.executable, "-c", code, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(2)]
        time.sleep(seconds)
        process.kill()
        lines = [*first, *process.stdout.read().split("\n")]
    # The last line may be cut short.
    return int([line for line in lines if line.strip()][-2])


def assert_survived(path: Path, given: int) -> None:
    """At 50 pictures a second, at most the last second is lost."""
    assert given - 50 <= frames_in(path) <= given + 1


@pytest.mark.parametrize("seconds", [0.05, 1.3])
def test_a_killed_recording_plays(tmp_path: Path, seconds: float) -> None:
    given = killed_after(tmp_path / "v.mp4", seconds)
    assert_survived(tmp_path / "v.mp4", given)


@pytest.mark.slow
def test_twenty_killed_recordings_play(tmp_path: Path) -> None:
    moments = random.Random(6)
    for number in range(20):
        path = tmp_path / f"{number}.mp4"
        assert_survived(path, killed_after(path, moments.uniform(0.05, 4)))
