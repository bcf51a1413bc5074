"""The power script against a faked nvpmodel and jetson_clocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Board

ORIN_NANO = ((0, "15W"), (1, "25W"), (2, "MAXN_SUPER"), (3, "7W"))
OLDER = ((0, "MODE_15W"), (1, "MODE_7W"))
HIGHEST = {"cpu": "1728000", "gpu": "1020000000"}

# As the real one: a mode that needs a reboot is not set when nobody answers yes.
NVPMODEL = r"""
case "$1" in
  -q) echo "NV Power Mode: any"; cat "$FAKE/mode" ;;
  -m)
    if [ "$2" = "${FAKE_NEEDS_REBOOT-}" ]; then
      echo "DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:"
      read -r answer || true
      [ "${answer-}" = yes ] || exit 0
    fi
    echo "$2" >"$FAKE/mode" ;;
esac
"""
JETSON_CLOCKS = r"""
cpu=$FAKE/sys/devices/system/cpu/cpu0/cpufreq gpu=$FAKE/sys/class/devfreq/17000000.gpu
case "${1-}" in
  --store)
    [ ! -e "$2" ] || { echo "File $2 already exists. Can I overwrite it? Y/N:"; exit 1; }
    [ -z "${FAKE_NO_RIGHTS-}" ] || exit 1
    cat "$cpu/scaling_min_freq" "$gpu/min_freq" >"$2" ;;
  --restore) { read -r low; echo "$low" >"$cpu/scaling_min_freq"; read -r low; echo "$low" >"$gpu/min_freq"; } <"$2" ;;
  "")
    [ -z "${FAKE_CLOCKS_STAY-}" ] || exit 0
    cp "$cpu/scaling_max_freq" "$cpu/scaling_min_freq"
    cp "$gpu/max_freq" "$gpu/min_freq" ;;
esac
"""


def with_modes(board: Board, modes: tuple[tuple[int, str], ...], current: int) -> Board:
    board.stand_in("nvpmodel", NVPMODEL)
    board.stand_in("jetson_clocks", JETSON_CLOCKS)
    text = "".join(f"< POWER_MODEL ID={number} NAME={name} >\nCPU_ONLINE CORE_0 1\n" for number, name in modes)
    (board.root / "nvpmodel.conf").write_text(text)
    (board.root / "mode").write_text(f"{current}\n")
    cpu, gpu = clock_folders(board)
    for folder in (cpu, gpu):
        folder.mkdir(parents=True)
    (cpu / "scaling_min_freq").write_text("115200\n")
    (cpu / "scaling_max_freq").write_text(f"{HIGHEST['cpu']}\n")
    (gpu / "min_freq").write_text("306000000\n")
    (gpu / "max_freq").write_text(f"{HIGHEST['gpu']}\n")
    places = {"NVPMODEL_CONF": "nvpmodel.conf", "SYSFS": "sys", "STATE_DIRECTORY": "state"}
    board.environment |= {name: str(board.root / place) for name, place in places.items()}
    return board


def clock_folders(board: Board) -> tuple[Path, Path]:
    return board.root / "sys/devices/system/cpu/cpu0/cpufreq", board.root / "sys/class/devfreq/17000000.gpu"


def clocks(board: Board) -> tuple[str, str]:
    cpu, gpu = clock_folders(board)
    return (cpu / "scaling_min_freq").read_text().strip(), (gpu / "min_freq").read_text().strip()


@pytest.fixture
def orin(board: Board) -> Board:
    return with_modes(board, ORIN_NANO, 1)


def test_max_and_back(orin: Board) -> None:
    assert orin.run("power.sh", "status").stdout == "mode 25W (1), clocks free\n"
    done = orin.run("power.sh", "max")
    assert (done.returncode, done.stdout) == (0, "mode MAXN_SUPER (2), clocks locked\n"), done.stderr
    assert clocks(orin) == (HIGHEST["cpu"], HIGHEST["gpu"])
    # What was set at first is what is kept, however often another mode is chosen.
    assert orin.run("power.sh", "mode", "7W").stdout == "mode 7W (3), clocks locked\n"
    assert orin.run("power.sh", "mode", "0").stdout == "mode 15W (0), clocks locked\n"
    done = orin.run("power.sh", "restore")
    assert (done.returncode, done.stdout) == (0, "mode 25W (1), clocks free\n"), done.stderr
    assert clocks(orin) == ("115200", "306000000")
    assert list((orin.root / "state").iterdir()) == []
    assert orin.run("power.sh", "max").returncode == 0


def test_without_a_maxn_the_most_watts_are_the_fastest(board: Board) -> None:
    with_modes(board, OLDER, 1)
    assert board.run("power.sh", "max").stdout == "mode MODE_15W (0), clocks locked\n"


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["max"], {"FAKE_NEEDS_REBOOT": "2"}, "mode MAXN_SUPER is not set, 25W is: it needs a reboot"),
        (["max"], {"FAKE_CLOCKS_STAY": "yes"}, "the clocks are not locked"),
        (["max"], {"FAKE_NO_RIGHTS": "yes"}, "run this with sudo"),
        (["max"], {"NVPMODEL_CONF": "/absent"}, "/absent, which lists the power modes"),
        (["mode", "50W"], {}, "there is no mode 50W: choose one of 15W (0), 25W (1), MAXN_SUPER (2), 7W (3)"),
        (["mode"], {}, "say which"),
        (["restore"], {}, "nothing was changed"),
        ([], {}, "say what to do"),
    ],
)
def test_each_refusal_is_one_sentence(
    orin: Board, arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    done = orin.run("power.sh", *arguments, **environment)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("power: ")
    assert sentence in last


def test_it_is_refused_where_there_are_no_power_modes(board: Board) -> None:
    done = board.run("power.sh", "max")
    assert done.returncode == 1
    assert done.stderr == "power: there is no nvpmodel here: only a Jetson has power modes\n"
