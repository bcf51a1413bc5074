"""A model repository, and the real Triton server with real clients."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.geometry import frame_at
from pspnet_edge.deploy.triton import write_repository
from pspnet_edge.engine.backends import open_engine
from pspnet_edge.engine.model import prepare_model
from pspnet_edge.errors import OptionError, OutputError

ROOT = Path(__file__).resolve().parents[2]

CLIENTS = """
import sys, threading
import numpy as np
import tritonclient.http as http

address, each = sys.argv[1], int(sys.argv[2])
frames, masks = np.load("frames.npy"), np.load("masks.npy")
equal = []

def ask(first):
    client = http.InferenceServerClient(address)
    for turn in range(each):
        index = (first + 3 * turn) % len(frames)
        given = http.InferInput("frames", [1, *frames.shape[1:]], "UINT8")
        given.set_data_from_numpy(frames[index : index + 1])
        answer = client.infer("road", [given], outputs=[http.InferRequestedOutput("masks", binary_data=True)])
        equal.append(np.array_equal(answer.as_numpy("masks")[0], masks[index]))

threads = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sum(equal), len(equal))
"""


def test_a_repository_has_an_engine_its_program_and_a_configuration(tmp_path: Path) -> None:
    served = write_repository(prepare_model(None), tmp_path / "repo", name="road", backend="python", max_batch=4)
    assert (served.backend, served.precision, served.max_batch) == ("python", "int8", 4)
    version = tmp_path / "repo/road/1"
    assert sorted(path.name for path in version.iterdir()) == ["model.engine", "model.engine.json", "model.py"]
    compile((version / "model.py").read_text(), "model.py", "exec")
    text = (tmp_path / "repo/road/config.pbtxt").read_text()
    assert 'backend: "python"' in text
    assert "max_batch_size: 4" in text
    assert "dynamic_batching" in text
    assert "model_warmup" in text
    assert re.search(r"dims: \[384, 480, 3\]", text)
    with pytest.raises(OutputError, match="there already"):
        write_repository(prepare_model(None), tmp_path / "repo", name="road")


def test_the_onnx_file_is_served_with_its_own_names_and_batch(tmp_path: Path) -> None:
    served = write_repository(prepare_model(None), tmp_path, name="road", backend="onnxruntime")
    assert (served.precision, served.max_batch) == ("fp32", 0)
    text = (tmp_path / "road/config.pbtxt").read_text()
    assert "dims: [1, 384, 480, 3]" in text
    assert "dynamic_batching" not in text


@pytest.mark.parametrize("options", [{"backend": "x"}, {"name": "../x"}, {"instances": 0}, {"max_batch": 10_000}])
def test_values_that_do_not_fit_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        write_repository(prepare_model(None), tmp_path / "repo", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "repo").exists()


@pytest.mark.slow
def test_the_real_server_gives_the_masks_of_the_engine_to_four_clients(tmp_path: Path) -> None:
    packages = install_triton(tmp_path / "venv")
    server = tmp_path / "server"
    shutil.copytree(packages / "pytriton/tritonserver", server)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        pytest.skip(f"this Triton has no Python {version}")
    shutil.copy(stub, server / "backends/python")
    for program in (server / "bin/tritonserver", server / "backends/python/triton_python_backend_stub"):
        program.chmod(0o755)

    write_repository(prepare_model(None), tmp_path / "repo", name="road", backend="python", precision="int8")
    scenes = SceneSet("test")
    with open_engine(tmp_path / "repo/road/1/model.engine") as engine:
        frames = np.stack([frame_at(scenes.image(index * 10), engine.size_hw) for index in range(8)])
        masks = np.stack([engine.infer(frame[None])[0] for frame in frames])
    np.save(tmp_path / "frames.npy", frames)
    np.save(tmp_path / "masks.npy", masks)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    libraries = [str(packages / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR"))]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(libraries),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}",
    }
    command = [server / "bin/tritonserver", "--model-repository", tmp_path / "repo"]
    command += ["--backend-directory", server / "backends", "--http-address", "127.0.0.1", "--http-port", port]
    command += ["--allow-grpc", "false", "--allow-metrics", "false"]
    log = tmp_path / "server.log"
    with (
        log.open("wb") as stream,
        subprocess.Popen(list(map(str, command)), env=environment, stdout=stream, stderr=stream) as process,
    ):
        try:
            await_ready(f"http://127.0.0.1:{port}/v2/health/ready", process, log)
            python = tmp_path / "venv/bin/python"
            done = subprocess.run(
                [python, "-c", CLIENTS, f"127.0.0.1:{port}", "50"], cwd=tmp_path, capture_output=True, text=True
            )
            assert done.stdout.split() == ["200", "200"], done.stderr
        finally:
            process.terminate()
            process.wait(60)


def install_triton(venv: Path) -> Path:
    """The real server and client in their own environment; its folder of packages."""
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    wanted = ["nvidia-pytriton==0.7.0", "tritonclient[http]"]
    done = subprocess.run(
        [venv / "bin/python", "-m", "pip", "install", "--quiet", *wanted], capture_output=True, text=True, timeout=900
    )
    if done.returncode != 0:
        pytest.skip(f"nvidia-pytriton cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return next(venv.glob("lib/python*/site-packages"))


def await_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 180
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.5)
    raise AssertionError(log.read_text(errors="replace")[-3000:])
