#!/usr/bin/env bash
# Installs pspnet-edge on a Jetson with JetPack 6 or 7, in a venv that sees JetPack's own TensorRT, OpenCV and NumPy.
#
#   jetson/setup.sh [--without-jetpack] [VENV [SOURCE]]
#
# VENV: ~/pspnet-edge    SOURCE: the clone that holds this script, or a wheel
# --without-jetpack: for an Arm machine with Debian or Ubuntu and no JetPack. The same steps, with the system's OpenCV and
# NumPy; engines run in ONNX Runtime.
#
# Run it as yourself, not with sudo; it asks for sudo only where a Debian package is missing. Safe to run again: what is
# there is kept. Debian packages are only added, never upgraded or removed, and at the end the versions of JetPack's
# packages are compared with those before.
set -euo pipefail

readonly OLDEST_L4T=36 NEWEST_L4T=39
readonly NEEDED_KIB=$((3 * 1024 * 1024))

# What must come from the system, the extras of the package, and how messages name the system.
modules=(numpy cv2 tensorrt) extras=web system="JetPack"
if [ "${1-}" = --without-jetpack ]; then
  modules=(numpy cv2) extras=onnxruntime,web system="the system"
  shift
fi
readonly modules extras system

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${1:-$HOME/pspnet-edge}
wheel_or_clone=${2:-$(dirname "$here")}
# Neither may come before JetPack's packages, here or in the venv.
unset PYTHONPATH VIRTUAL_ENV

die() {
  printf 'setup: %s\n' "$1" >&2
  exit 1
}

say() {
  printf 'setup: %s\n' "$1"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

with_jetpack() {
  [ "$system" = JetPack ]
}

check_board() {
  local release
  [ "$(uname -m)" = aarch64 ] || die "this is not a Jetson but a $(uname -m) machine: install with pip install '.[openvino]' instead"
  if ! with_jetpack; then
    expected=3
    say "without JetPack: engines run in ONNX Runtime"
    return
  fi
  release=$(dpkg-query -W -f '${Version}' nvidia-l4t-core 2>/dev/null) ||
    die "this is not a Jetson: it has no package nvidia-l4t-core: on another Arm board run $0 --without-jetpack"
  l4t=${release%%.*}
  if [ "$l4t" -lt "$OLDEST_L4T" ]; then
    die "Jetson Linux $release belongs to JetPack 5 or earlier, whose TensorRT is older than 8.6: flash JetPack 6 or 7 on an Orin; a Xavier or older board has none, so run engines on its processor (pip3 install uv && uv venv --python 3.10 $venv && uv pip install --python $venv/bin/python 'pspnet-edge[onnxruntime,opencv,web]')"
  fi
  if [ "$l4t" -gt "$NEWEST_L4T" ]; then
    say "Jetson Linux $release is newer than this script knows; continuing as for JetPack 7"
  fi
  if [ "$l4t" -eq 36 ]; then expected=3.10; else expected=3.12; fi
  say "Jetson Linux $release"
}

check_room() {
  local folder free
  folder=$venv
  while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
  [ -w "$folder" ] || die "$folder cannot be written by $(id -un): sudo install -d -o $(id -un) $venv"
  free=$(df -Pk "$folder" | awk 'NR == 2 { print $4 }')
  [ "$free" -ge "$NEEDED_KIB" ] ||
    die "$((free / 1024)) MiB are free under $folder and $((NEEDED_KIB / 1024)) are needed: sudo apt-get clean, or name another folder"
}

add_debian_packages() {
  local package missing=()
  local needed=(python3-venv python3-numpy python3-gi python3-gst-1.0)
  if with_jetpack; then needed+=(python3-libnvinfer); fi
  for package in "${needed[@]}"; do
    installed "$package" || missing+=("$package")
  done
  # JetPack's OpenCV comes under another name in each release, or is compiled by hand; any that imports is kept.
  if ! system_python -c 'import cv2' 2>/dev/null; then
    if apt-cache show libopencv-python >/dev/null 2>&1; then missing+=(libopencv-python); else missing+=(python3-opencv); fi
  fi
  [ ${#missing[@]} -gt 0 ] || return 0
  say "adding ${missing[*]}"
  as_root apt-get update
  as_root apt-get install -y --no-upgrade --no-remove --no-install-recommends "${missing[@]}" ||
    die "apt-get cannot add ${missing[*]} without removing or changing what $system installed: fix apt first, see above"
}

# Without ~/.local, where a pip install may come before JetPack's packages.
system_python() {
  "$python" -s "$@"
}

# Prints a line for each of the system's packages: name, version, file; or which of them does not import.
versions_in() {
  "$@" -c '
import importlib, sys
for name in sys.argv[1:]:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        print(f"{name} cannot be imported ({error})")
        raise SystemExit(1) from None
    print(name, module.__version__, module.__file__)
' "${modules[@]}"
}

find_python() {
  python=$(command -v "python$expected") || python=$(command -v python3) || die "there is no python3: sudo apt-get install -y python3"
  ! with_jetpack || [ "$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = "$expected" ] ||
    die "$python is not Python $expected, for which this JetPack has TensorRT: put /usr/bin first on PATH, or leave conda"
  [ "$("$python" -c 'import sys; print(sys.prefix == sys.base_prefix)')" = True ] ||
    die "$python is in a venv already: run deactivate first"
}

make_venv() {
  if [ ! -x "$venv/bin/python" ]; then
    say "making $venv"
    system_python -m venv --system-site-packages "$venv"
  elif ! grep -Eq '^include-system-site-packages *= *true' "$venv/pyvenv.cfg"; then
    die "the venv $venv does not see $system's packages: remove it with rm -r $venv and run this again"
  fi
}

install_package() {
  local constraints
  constraints=$venv/jetpack.constraints.txt
  # pip then fails rather than put another NumPy before the one that the system's packages were compiled against.
  awk '$1 == "numpy" { print "numpy==" $2 }' <<<"$before" >"$constraints"
  "$venv/bin/python" -m pip install --disable-pip-version-check --constraint "$constraints" "${wheel_or_clone}[$extras]" ||
    die "pip cannot install $wheel_or_clone beside $system's $(<"$constraints"), see above"
}

verify() {
  local after
  after=$(versions_in "$venv/bin/python") || die "in $venv, ${after##*$'\n'}: remove the venv with rm -r $venv and run this again"
  if [ "$after" != "$before" ]; then
    printf 'before, with the system:\n%s\nnow, in the venv:\n%s\n' "$before" "$after" >&2
    die "another package comes before $system's: pip uninstall it from where it is, or remove the venv with rm -r $venv"
  fi
  say "$system's packages are those of before:"
  printf '  %s\n' "${after//$'\n'/$'\n'  }"
}

check_board
check_room
find_python
add_debian_packages
before=$(versions_in system_python) ||
  die "with the system's Python, ${before##*$'\n'}: sudo apt-get install -y $(with_jetpack && echo nvidia-jetpack || echo python3-opencv python3-numpy)"
make_venv
install_package
verify
"$venv/bin/pspnet-edge" doctor || say "the doctor found what is still to be fixed, see above"
say "done: source $venv/bin/activate && pspnet-edge run --input demo --frames 100 --view none"
