from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from pspnet_edge.cli.run import _with_rate
from pspnet_edge.data.png import has_palette
from pspnet_edge.engine.build import build_engine, prepare_model

SERVER = Path(__file__).parents[1] / "camera" / "mjpeg_server.py"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engine") / "int8.engine"
    build_engine(prepare_model(None), "int8", "openvino", path)
    return path


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pspnet_edge", "run", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def wait_for(path: Path, text: str = "", deadline_s: float = 60) -> None:
    """Until the file has content, and the text is in its last line."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if path.exists() and path.stat().st_size and (not text or text in path.read_text().splitlines()[-1]):
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} has no {text!r}")


def test_everything_that_is_kept_is_there(engine: Path, tmp_path: Path, command_line) -> None:
    options = ("--record", tmp_path / "v.mp4", "--save-masks", tmp_path / "masks", "--stats", tmp_path / "s.jsonl")
    done = command_line("run", engine, "--input", "demo", "--frames", 20, "--view", "none", *options, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["frames"] == 20
    assert facts["source"] == "demo"
    assert facts["record"] == str(tmp_path / "v.mp4")
    assert set(facts["stages_ms"]) == {"capture", "prepare", "infer", "overlay", "output"}
    assert facts["sources"][0]["state"] == "ended"
    masks = sorted((tmp_path / "masks").iterdir())
    assert [path.name for path in masks] == [f"{number:08d}.png" for number in range(20)]
    assert has_palette(masks[0].read_bytes())
    capture = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    assert sum(capture.read()[0] for _ in range(25)) == 20
    last = json.loads((tmp_path / "s.jsonl").read_text().splitlines()[-1])
    assert last["frames"] == 20


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("street.jpg", "yard.jpg", "wall.png"):
        cv2.imwrite(str(folder / name), np.full((60, 80, 3), 90, np.uint8))
    return folder


def test_images_after_the_engine_keep_their_names_and_the_end_says_what_was_written(
    engine: Path, images: Path, tmp_path: Path, command_line
) -> None:
    masks, overlays = tmp_path / "masks", tmp_path / "overlays"
    kept = ("--save-masks", masks, "--save-overlays", overlays)
    done = command_line("run", engine, *sorted(images.iterdir()), *kept, "--no-legend", "--hide", "sky")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 frames, 0 dropped")
    assert done.stdout.rstrip().endswith(f"wrote 3 masks in {masks}, 3 overlays in {overlays}")
    assert sorted(path.name for path in overlays.iterdir()) == ["street.jpg", "wall.jpg", "yard.jpg"]
    assert sorted(path.name for path in masks.iterdir()) == ["street.png", "wall.png", "yard.png"]
    again = command_line("run", engine, images / "yard.jpg", *kept, "--json")
    assert json.loads(again.stdout)["outputs"] == [f"{masks}-2", f"{overlays}-2"]
    assert f"{masks} holds files that masks would replace" in again.stderr


def test_nothing_to_show_and_nothing_to_save_is_said(engine: Path, images: Path, command_line) -> None:
    done = command_line("run", engine, images / "yard.jpg")
    assert done.returncode == 0
    assert done.stdout.startswith("1 frame, 0 dropped")
    assert done.stdout.rstrip().endswith("(warm-up only)"), "one frame says little about the speed"
    assert "--save-overlays DIR" in done.stderr
    assert "--save-overlays DIR" not in command_line("run", engine, images, "--view", "none").stderr


def test_a_port_for_metrics_that_the_page_makes_needless_is_said(engine: Path, command_line) -> None:
    page = ("--view", "web", "--web-port", 0, "--frames", 4)
    done = command_line("run", engine, "--input", "demo", *page, "--metrics-port", 9123)
    assert done.returncode == 0
    assert "--metrics-port 9123 is not used" in done.stderr
    assert "(warm-up only)" not in done.stdout


def test_a_token_that_was_made_up_is_told_once_and_one_that_was_given_never(
    engine: Path, command_line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "edge.log"
    monkeypatch.setenv("PSPNET_EDGE_LOG", str(log))
    page = ("run", engine, "--input", "demo", "--frames", 2, "--web-host", "0.0.0.0", "--web-port", 0)
    made_up = command_line(*page, "--view", "web").stderr
    token = re.search(r"^watch at http://\S+/\?token=([\w-]{16,})$", made_up, re.MULTILINE)
    assert token is not None, made_up
    scraped = command_line(*page, "--view", "none", "--metrics-port", 0).stderr
    bearer = re.search(r"^they ask for Authorization: Bearer ([\w-]{16,})$", scraped, re.MULTILINE)
    assert bearer is not None, scraped
    given = command_line(*page, "--view", "web", "--web-token", "my-own-secret-token")
    assert "watch at http://" in given.stderr
    assert "my-own-secret-token" not in given.stderr + given.stdout
    logged = log.read_text()
    assert "watch at http://" in logged
    assert not [secret for secret in (token[1], bearer[1], "my-own-secret-token") if secret in logged]


def test_files_play_again_or_at_their_own_rate(engine: Path, images: Path, tmp_path: Path, command_line) -> None:
    masks = tmp_path / "masks"
    done = command_line("run", engine, images, "--loop", "--frames", 7, "--save-masks", masks, "--json")
    assert json.loads(done.stdout)["frames"] == 7
    assert "street-3.png" in {path.name for path in masks.iterdir()}
    began = time.monotonic()
    command_line("run", engine, images, "--realtime", "--view", "none")
    assert time.monotonic() - began > 0.4  # three images at five per second


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("--input", "demo", "--precision", "int8"), "--precision"),
        (("--input", "demo", "--runtime", "openvino"), "--runtime"),
        (("--input", "demo", "--model", "x.onnx"), "--model"),
        (("--input", "demo", "--size", "480x640"), "--size"),
        (("--input", "demo", "--fps", "30"), "--fps"),
        (("--input", "demo", "--loop"), "--loop"),
        (("--input", "demo", "--view", "none", "--show", "mask"), "--show"),
        (("--input", "demo", "--view", "none", "--no-legend"), "--legend"),
        (("--input", "demo", "--view", "none", "--opacity", "0.2"), "--opacity"),
        (("--input", "demo", "--view", "none", "--web-port", "1"), "--web-port"),
        (("--input", "demo", "--home", "versions"), "--home"),
    ],
)
def test_an_option_that_would_do_nothing_is_wrong_usage(
    engine: Path, command_line, arguments: tuple[str, ...], option: str
) -> None:
    done = command_line("run", engine, *arguments)
    assert done.returncode == 2
    assert option in done.stderr
    assert "leave it out" in " ".join(done.stderr.split())


def test_help_has_panels_and_an_example_and_fits_80_columns(command_line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = command_line("run", "--help").stdout
    for panel in ("Source", "Engine", "View", "Output", "Service", "Examples"):
        assert panel in text
    assert "pspnet-edge run --input demo --view web" in text
    assert max(map(len, text.splitlines())) <= 80


def test_an_engine_behind_its_input_is_told_where_it_belongs(engine: Path, tmp_path: Path, command_line) -> None:
    for name in (engine, "mine.onnx"):
        done = command_line("run", "drive.mp4", name)
        assert done.returncode == 2
        assert f"{name} is an engine or a model, not an input: name it before the inputs" in done.stderr


def test_two_sources_at_once(engine: Path, tmp_path: Path, command_line) -> None:
    for folder, count in (("a", 3), ("b", 5)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), np.zeros((60, 80, 3), np.uint8))
    inputs = ("--input", tmp_path / "a", "--input", tmp_path / "b", "--record", tmp_path / "v.mp4")
    done = command_line("run", engine, *inputs, "--view", "none", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [(source["name"], source["frames"]) for source in facts["sources"]] == [("a", 3), ("b", 5)]
    assert (tmp_path / "v-1.mp4").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --camera N or --input PLACE"),
        (("--camera", "63"), "there is no camera /dev/video63"),
        (("--input", "http://user:secret@127.0.0.1:9/"), "http://127.0.0.1:9/ does not answer"),
        (("--camera", "63", "--size", "big"), "'big' is not a size"),
        (("--input", "demo", "--watchdog"), "Type=notify"),
        (("--input", "demo", "--rtp", "nowhere"), "--rtp"),
        (("--input", "demo", "--record", "v.gif"), "does not end in .mp4"),
        (("--input", "demo", "--record", "v.mp4", "--hide", "skye"), "unknown class 'skye'"),
    ],
)
def test_what_cannot_be_is_one_sentence(engine: Path, command_line, arguments: tuple[str, ...], message: str) -> None:
    done = command_line("run", engine, *arguments, "--view", "none", "--json")
    of_the_machine = "there is no camera" in message or "does not answer" in message
    assert done.returncode == (1 if of_the_machine else 2)
    error = json.loads(done.stdout)["error"]
    assert message in f"{error['problem']}: {error['fix']}"
    assert "secret" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_a_stream_that_comes_later_is_waited_for(engine: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stats = tmp_path / "s.jsonl"
    stream = ("--input", f"http://user:secret@127.0.0.1:{port}/?key=secret", "--wait", "--frames", 5)
    running = start(engine, *stream, "--view", "none", "--json", "--stats", stats)
    wait_for(stats)
    assert json.loads(stats.read_text().splitlines()[0])["sources"][0]["state"] == "stale"
    with subprocess.Popen([sys.executable, str(SERVER), str(port), "20"], stdout=subprocess.DEVNULL) as server:
        out, problems = running.communicate(timeout=60)
        server.kill()
    assert running.returncode == 0, problems
    facts = json.loads(out)
    assert facts["frames"] == 5
    assert facts["sources"][0]["format"].startswith("120x160")
    assert "secret" not in out + problems + stats.read_text()


def test_systemd_hears_of_it(engine: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(60)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
        heard: list[bytes] = []

        def listen() -> None:
            while heard[-1:] != [b"STOPPING=1"]:
                heard.append(receiver.recv(200))

        listening = threading.Thread(target=listen, daemon=True)
        listening.start()
        running = start(engine, "--input", "demo", "--view", "none", "--watchdog", **environment)
        while len(heard) < 3:
            time.sleep(0.05)
        running.terminate()
        running.communicate(timeout=60)
        listening.join(10)
    assert running.returncode == 0
    assert heard[0] == b"READY=1"
    assert heard[-1] == b"STOPPING=1"
    assert all(ping.startswith(b"WATCHDOG=1\nSTATUS=") for ping in heard[1:-1])


def test_a_killed_run_leaves_a_video_that_plays(engine: Path, tmp_path: Path) -> None:
    running = start(engine, "--input", "demo", "--view", "none", "--record", tmp_path / "v.mp4")
    wait_for(tmp_path / "v.mp4")
    time.sleep(2)
    running.kill()
    running.communicate()
    capture = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    assert capture.read()[0]


def test_a_damaged_video_is_segmented_to_its_end_and_the_exit_status_says_so(
    engine: Path, tmp_path: Path, command_line
) -> None:
    import av

    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(60):
            noise = np.random.default_rng(number).integers(0, 256, (240, 320, 3)).astype(np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(noise, "bgr24")))
        file.mux(stream.encode(None))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    done = command_line("run", engine, path, "--view", "none", "--save-masks", tmp_path / "masks", "--json")
    assert done.returncode == 1
    facts = json.loads(done.stdout)
    assert facts["frames"] + facts["lost"] == 60
    assert len(list((tmp_path / "masks").iterdir())) == facts["frames"]
    assert "is cut short" in done.stderr


@pytest.mark.parametrize("options", [(), ("--flip", "180"), ("--loop", "--frames", "6")])
def test_an_image_that_cannot_be_read_is_left_out_and_the_others_keep_their_names(
    engine: Path, tmp_path: Path, command_line, options: tuple[str, ...]
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        frame = np.random.default_rng(number).integers(0, 256, (60, 80, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), frame)
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:900])
    done = command_line(
        "run", engine, folder, "--view", "none", "--save-overlays", tmp_path / "seen", "--json", *options
    )
    assert done.returncode == (0 if "--frames" in options else 1), done.stderr
    facts = json.loads(done.stdout)
    turns = ["0", "1", "3", "4", "0-2", "1-2"]
    assert sorted(path.stem for path in (tmp_path / "seen").iterdir()) == sorted(turns[: facts["frames"]])
    assert facts["lost"] == 1
    few = command_line("run", engine, folder, "--view", "none", "--save-masks", tmp_path / "few", "--frames", 2)
    assert few.returncode == 0, few.stderr  # the image behind them was not asked for
    assert f"1 image of 5 could not be read, first {folder / '2.png'} is cut short" in done.stderr


@pytest.mark.parametrize(
    ("options", "known"),
    [
        (("--flip", "90"), None),
        (("--fit", "letterbox"), None),
        (("--fit", "crop"), (0, 81, 241, 301)),
        (("--roi", "11,7,301,99"), (7, 11, 99, 301)),
        (("--tiles",), None),
    ],
)
def test_masks_of_every_geometry_have_the_frames_size(
    engine: Path, tmp_path: Path, command_line, options: tuple[str, ...], known: tuple[int, ...] | None
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 256, (241, 463, 3)).astype(np.uint8))
    done = command_line(
        "run", engine, tmp_path / "a.png", *options, "--view", "none", "--save-masks", tmp_path / "masks", "--json"
    )
    assert done.returncode == 0, done.stderr
    mask = ids_of(tmp_path / "masks" / "a.png")
    assert mask.shape == ((463, 241) if "--flip" in options else (241, 463))
    inside = np.ones(mask.shape, bool)
    if known is not None:
        top, left, height, width = known
        inside[:] = False
        inside[top : top + height, left : left + width] = True
    assert ((mask != 255) == inside).all()


def ids_of(path: Path) -> np.ndarray:
    """The class ids of a palette PNG, whose colours OpenCV would give."""
    from PIL import Image

    return np.asarray(Image.open(path))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--flip", "45"), "unknown flip '45'"),
        (("--fit", "squeeze"), "unknown fit 'squeeze'"),
        (("--roi", "1,2,3"), "give X,Y,WIDTH,HEIGHT"),
        (("--roi", "5000,0,10,10"), "does not lie inside the frame"),
    ],
)
def test_a_geometry_that_cannot_be_is_one_sentence(
    engine: Path, command_line, options: tuple[str, ...], sentence: str
) -> None:
    done = command_line("run", engine, "--input", "demo", "--frames", 2, "--view", "none", *options)
    assert done.returncode in (1, 2)
    assert sentence in done.stderr
    assert options[0] in done.stderr
    assert "Traceback" not in done.stderr


def test_a_csi_camera_runs_on_software_elements(engine: Path, tmp_path: Path) -> None:
    """The board's pipelines, from the command line to the reader process: small frames alone, then whole ones."""
    debian = "/usr/lib/python3/dist-packages"
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(f"import sys; sys.path.append({debian!r})\n")
    variables = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(site)])}
    check = "from pspnet_edge.camera.gstreamer import binding_has; raise SystemExit(not binding_has('videotestsrc'))"
    if subprocess.run([sys.executable, "-c", check], env={**os.environ, **variables}).returncode:
        pytest.skip("no GStreamer for this Python: apt-get install python3-gi gir1.2-gstreamer-1.0")
    formats = []
    for options in (
        ("--metrics-port", 0),
        ("--record", tmp_path / "v.mp4"),
        ("--flip", "90", "--save-masks", tmp_path / "m"),
    ):
        run = start(
            engine, "--input", "csi://0", "--size", "480x640", "--frames", 5, "--view", "none", *options, "--json",
            **variables, PSPNET_EDGE_VIDEO="software",
        )  # fmt: skip
        out, error = run.communicate(timeout=60)
        assert run.returncode == 0, error
        facts = json.loads(out)
        assert facts["frames"] == 5
        formats.append(facts["sources"][0]["format"])
    assert "scaled by the video engines" in formats[0], "only figures are served: no whole frame is made"
    assert formats[1].startswith("480x640")
    assert formats[2].startswith("640x480")
    assert ids_of(tmp_path / "m" / "00000000.png").shape == (640, 480)


@pytest.mark.parametrize(("to_the_end", "position"), [(True, 40), (False, 10)])
def test_dropped_frames_bring_a_file_nearer_to_its_end_and_not_to_a_number_of_frames(
    to_the_end: bool, position: int
) -> None:
    loop = SimpleNamespace(summary=lambda: SimpleNamespace(fps_recent=5.0, dropped=30))
    shown: list[int] = []
    _with_rate(loop, lambda done, note="": shown.append(done), to_the_end=to_the_end)(10)
    assert shown == [position]
