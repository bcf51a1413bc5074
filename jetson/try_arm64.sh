#!/usr/bin/env bash
# Tries the way of a board on an emulated ARM64 machine: Debian 12 with its own Python, OpenCV, GStreamer and NumPy.
#
#   jetson/try_arm64.sh [FOLDER]            FOLDER: build/arm64
#
# Makes the machine in FOLDER/machine, installs this clone in it with setup.sh and with pip, builds an INT8 engine there,
# runs it, and compares it with the same engine here. The table is FOLDER/result.md, the figures are FOLDER/result.json,
# and what each step printed is in FOLDER/steps. Exit status 1 if a step failed.
#
# It takes 1.5 GB, and ten minutes on an idle computer. A machine that is there is used again; for a new one remove FOLDER.
# PYTHON is a Python of this computer that has this package and ONNX Runtime; left out, python3.
#
# Needs debootstrap and qemu-user-static, and root. Where the kernel may not be told to run ARM64 programs (binfmt_misc), as
# in many containers, it needs proot too. EMULATOR=proot takes that way, which is several times slower, in any case.
set -euo pipefail

readonly SUITE=bookworm MIRROR=http://deb.debian.org/debian
# What an Arm board has before setup.sh: Python, and GStreamer's elements for a camera.
readonly PACKAGES=(gstreamer1.0-plugins-base gstreamer1.0-plugins-good python3)
readonly CERTIFICATES=/etc/ssl/certs/ca-certificates.crt
readonly BINFMT=/proc/sys/fs/binfmt_misc
readonly VENV=/root/pspnet-edge
readonly FRAMES=5

die() {
  printf 'try_arm64: %s\n' "$1" >&2
  exit 1
}

say() {
  printf 'try_arm64: %s\n' "$1"
}

[ "$(uname -m)" = x86_64 ] || die "this emulates ARM64 on x86-64, and the computer is $(uname -m): on ARM64 run jetson/setup.sh"
[ "$(id -u)" = 0 ] || die "a machine needs a root user to be made: run it with sudo"
[ -e "$CERTIFICATES" ] || die "$CERTIFICATES is missing: apt-get install -y ca-certificates"
for tool in debootstrap qemu-aarch64-static; do
  command -v "$tool" >/dev/null || die "$tool is not installed: apt-get install -y debootstrap qemu-user-static"
done

# All that is mounted, by this script and by debootstrap, is seen only by it and ends with it, whatever ends it. So no
# mount can be left in the machine's folder, and removing that folder removes nothing else.
if [ -z "${OWN_MOUNTS-}" ]; then
  export OWN_MOUNTS=yes
  if unshare --mount true 2>/dev/null; then exec unshare --mount "$0" "$@"; fi
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
clone=$(dirname "$here")
python=${PYTHON:-python3}
mkdir -p "${1:-$clone/build/arm64}"
folder=$(cd "${1:-$clone/build/arm64}" && pwd)
machine=$folder/machine
steps=$folder/steps
mkdir -p "$machine" "$steps" "$folder/done"
"$python" -c 'import pspnet_edge, onnxruntime' ||
  die "$python has no pspnet_edge with onnxruntime: set PYTHON, or run make arm64"

# Lets the kernel start ARM64 programs in qemu, for as long as this script runs where it did not before.
register_qemu() {
  local magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  local mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  [ -e $BINFMT/register ] || mount -t binfmt_misc binfmt_misc $BINFMT 2>/dev/null || return
  if [ -e $BINFMT/qemu-aarch64 ]; then
    # F: qemu was opened when it was registered, so that it is found inside the machine.
    grep -q '^flags:.*F' $BINFMT/qemu-aarch64 && grep -q '^enabled' $BINFMT/qemu-aarch64
    return
  fi
  { printf %s ":qemu-aarch64:M::$magic:$mask:$(command -v qemu-aarch64-static):F" >$BINFMT/register; } 2>/dev/null || return
  trap 'echo -1 >$BINFMT/qemu-aarch64' EXIT
}

# proot of Debian 12 knows no call that is newer than itself, and passes its path on as it is, to a file outside the
# machine. A filter answers those calls as an older kernel does, and the C library then takes the ones that proot knows.
readonly WITHOUT_NEWER_CALLS='
import ctypes, os, struct, sys

RENAMEAT2, STATX, OPENAT2, FACCESSAT2 = 316, 332, 437, 439
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN, ALLOW, NO_SUCH_CALL = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000 | 38
NO_NEW_PRIVILEGES, SET_FILTER, FILTER = 38, 22, 2
calls = (RENAMEAT2, STATX, OPENAT2, FACCESSAT2)
program = [(LOAD_NUMBER, 0, 0, 0)]
program += [(JUMP_IF_EQUAL, len(calls) - i, 0, call) for i, call in enumerate(calls)]
program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, NO_SUCH_CALL)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(SET_FILTER, FILTER, header, 0, 0):
    sys.exit("the kernel takes no filter for system calls: " + os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[1], sys.argv[1:])
'

# Runs a command inside the machine, as its root.
enter() {
  local device way=(chroot "$machine")
  if [ "$emulator" = proot ]; then
    way=(python3 -c "$WITHOUT_NEWER_CALLS" proot -q qemu-aarch64-static -0 -w / -r "$machine")
    for device in null zero random urandom; do way+=(-b "/dev/$device"); done
    if [ -e "$folder/done/bootstrap" ]; then way+=(-b /proc -b /dev/shm); fi
  fi
  # pip would compile every module, most of which nothing imports; under qemu that takes minutes.
  "${way[@]}" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 PIP_CERT=/root/certificates \
    PIP_NO_COMPILE=1 "http_proxy=${http_proxy-}" "https_proxy=${https_proxy-}" DEBIAN_FRONTEND=noninteractive "$@"
}

mount_what_programs_need() {
  [ "$emulator" = chroot ] || return 0
  mount -t proc proc "$machine/proc"
  mkdir -p "$machine/dev/shm"
  mount -t tmpfs tmpfs "$machine/dev/shm"
}

# shellcheck disable=SC2329  # make_once calls it
add_packages() {
  # pip there trusts the servers that this computer trusts, also behind the proxy of a company.
  cp /etc/resolv.conf "$machine/etc/resolv.conf" && cp "$CERTIFICATES" "$machine/root/certificates" || return
  # No service may be started in a machine that has no init.
  printf '#!/bin/sh\nexit 101\n' >"$machine/usr/sbin/policy-rc.d" && chmod 755 "$machine/usr/sbin/policy-rc.d" || return
  # Nothing is lost that debootstrap cannot make again, so dpkg need not wait for the disk.
  echo force-unsafe-io >"$machine/etc/dpkg/dpkg.cfg.d/unsafe-io"
  enter apt-get update && enter apt-get install -y --no-install-recommends "${PACKAGES[@]}"
}

# A part of the machine that is made once: its name, what is said of it, and the command.
make_once() {
  local part=$1 text=$2
  shift 2
  [ ! -e "$folder/done/$part" ] || return 0
  say "$text"
  "$@" >"$steps/$part.log" 2>&1 </dev/null ||
    die "it failed, see $steps/$part.log; run this again, or remove $folder and begin from nothing"
  touch "$folder/done/$part"
}

# The files of this clone as they are now, and the pictures that both computers segment.
copy_sources() {
  rm -rf --one-file-system "$machine/src" "$machine/root/trial" "$folder/here"
  mkdir -p "$machine/src" "$machine/root/trial" "$folder/here"
  tar -C "$clone" -c --exclude=__pycache__ pyproject.toml README.md LICENSE pspnet_edge calibration jetson |
    tar -C "$machine/src" -x --no-same-owner
  "$python" "$here/arm64_result.py" inputs "$folder/here"
  cp -r "$folder/here/scenes" "$folder/here/frames" "$machine/root/trial"
}

# The same engine on this computer, with the sums that ARM64 has.
run_here() (
  here_edge=("$python" "$here/arm64_result.py" edge)
  cd "$folder/here" &&
    "${here_edge[@]}" build --runtime onnxruntime --precision int8 -o pspnet.engine --json >build.json &&
    "${here_edge[@]}" run pspnet.engine --input frames --save-masks frame_masks --view none --json >frames.json &&
    "${here_edge[@]}" run pspnet.engine --input demo --frames $FRAMES --save-masks masks --view none --json >demo.json &&
    "${here_edge[@]}" evaluate pspnet.engine --root scenes --json >evaluate.json
)

# A step in the machine, by its name in the result: what it prints, its exit status and its seconds are kept.
try() {
  local name=$1 status=0 began=$SECONDS
  shift
  say "$name"
  enter env --chdir=/root/trial "$@" >"$steps/$name.out" 2>"$steps/$name.err" </dev/null || status=$?
  echo "$status $((SECONDS - began))" >"$steps/$name.status"
}

# Which NumPy and OpenCV a venv gets, and that they work together.
readonly VERSIONS='
import json, platform
from importlib import metadata

import cv2
import numpy

assert cv2.resize(numpy.zeros((4, 4, 3), numpy.uint8), (2, 2)).shape == (2, 2, 3)
found = {"python": platform.python_version(), "machine": platform.machine()}
found |= {module.__name__: module.__version__ + " in " + module.__file__.rpartition("/")[0] for module in (numpy, cv2)}
found["opencv_gstreamer"] = cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)
found |= {name: metadata.version(name) for name in ("onnxruntime", "onnx", "av")}
print(json.dumps(found))
'

try_setup() {
  local edge=$VENV/bin/pspnet-edge
  try setup bash /src/jetson/setup.sh --without-jetpack $VENV
  try versions $VENV/bin/python -c "$VERSIONS"
  try build $edge build --runtime onnxruntime --precision int8 -o pspnet.engine --json
  try frames $edge run pspnet.engine --input frames --save-masks frame_masks --view none --json
  try demo $edge run pspnet.engine --input demo --frames $FRAMES --save-masks masks --record demo.mp4 --view none --json
  try evaluate $edge evaluate pspnet.engine --root scenes --json
  try doctor $edge doctor pspnet.engine --json
  try gstreamer $edge selftest --only sources --json
  try camera env PSPNET_EDGE_VIDEO=software $edge run pspnet.engine --input csi://0 --frames $FRAMES --record camera.mp4 \
    --view none --json
}

# The other way in: README's pip install, in a new venv that sees the system's packages and in one that does not.
try_pip() {
  local name=$1 extras=$2 venv=/root/$1
  shift 2
  rm -rf --one-file-system "${machine:?}$venv"
  # shellcheck disable=SC2016  # expanded inside the machine
  try "$name" sh -c 'venv=$1 extras=$2 versions=$3; shift 3
    python3 -m venv "$@" "$venv" && "$venv/bin/pip" install --disable-pip-version-check --quiet "/src[$extras]" >&2 &&
    "$venv/bin/python" -c "$versions" && "$venv/bin/pspnet-edge" run --input demo --frames 1 --view none >&2' \
    "$name" "$venv" "$extras" "$VERSIONS" "$@"
}

choose_emulator() {
  emulator=${EMULATOR:-}
  case $emulator in
    '') if register_qemu; then emulator=chroot; else emulator=proot; fi ;;
    chroot) register_qemu || die "$BINFMT takes no entry here: EMULATOR=proot needs none" ;;
    proot) ;;
    *) die "EMULATOR is $emulator: chroot or proot" ;;
  esac
  [ "$emulator" = chroot ] || command -v proot >/dev/null ||
    die "the kernel cannot be told to run ARM64 programs here, and proot is not installed: apt-get install -y proot"
  say "in $machine, by $emulator"
}

main() {
  choose_emulator
  rm -f "$steps"/*.status
  make_once unpack "unpacking Debian $SUITE for arm64" \
    debootstrap --foreign --arch=arm64 --variant=minbase "$SUITE" "$machine" "$MIRROR"
  make_once bootstrap "configuring it" enter /debootstrap/debootstrap --second-stage
  mount_what_programs_need
  make_once packages "adding Python and GStreamer" add_packages
  copy_sources
  say "the same engine on this computer"
  run_here 2>"$steps/here.log" || die "it failed, see $steps/here.log"
  try_setup
  try_pip pip onnxruntime,web --system-site-packages
  # What pip does on JetPack 6, whose NumPy is older than ONNX Runtime accepts: the last NumPy 1 in place of the system's.
  # shellcheck disable=SC2016  # expanded inside the machine
  try newer-numpy sh -c '/root/pip/bin/pip install --quiet "numpy==1.26.4" >&2 && /root/pip/bin/python -c "$1"' newer-numpy "$VERSIONS"
  try_pip pip-plain onnxruntime,opencv,web
  "$python" "$here/arm64_result.py" result "$folder" "$emulator"
}

main
exit
