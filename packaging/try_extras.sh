#!/usr/bin/env bash
# Installs the wheel with each extra into a clean venv of each Python, with the newest releases that pip finds for it, and
# does with it what the extra is for. Which releases those are differs by Python: PyAV 19 came to 3.12 first.
#
#   packaging/try_extras.sh WHEEL PYTHON...     such as dist/*.whl python3.10 python3.13
#
# EXTRAS="web report" tries only these; `train` brings PyTorch, several GB on some Pythons. Exit status 1 if any failed.
set -uo pipefail

wheel=$(realpath "$1")
shift
read -ra extras <<<"${EXTRAS:-openvino onnxruntime web report data tensorrt-rtx train}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH
export XDG_CACHE_HOME=$work/cache
cd "$work" || exit 1
failed=0

# The extra, with a runtime where it brings none.
with() {
  case $1 in
    openvino | onnxruntime | tensorrt-rtx) echo "$1" ;;
    *) echo "$1,onnxruntime" ;;
  esac
}

work_of() {
  local edge=venv/bin/pspnet-edge
  case $1 in
    openvino | onnxruntime)
      "$edge" run --input demo --frames 5 --view none --runtime "$1" --record demo.mp4 --json &&
        "$edge" run --input demo.mp4 --view none --runtime "$1" --json
      ;;
    web) "$edge" run --input demo --frames 5 --view web --web-port 0 --json ;;
    report) "$edge" benchmark --rounds 2 --seconds 1 -o report --overwrite --json ;;
    data | train)
      venv/bin/python - <<'PYTHON'
import pathlib
import cv2, numpy as np

for name in ("images", "masks"):
    pathlib.Path("drawn", name).mkdir(parents=True, exist_ok=True)
for index in range(6):
    mask = (np.arange(96)[:, None] > np.arange(96) + 8 * index - 20).astype(np.uint8)
    noise = np.random.default_rng(index).integers(0, 60, (96, 96, 3))
    cv2.imwrite(f"drawn/images/{index}.png", (noise + 120 * mask[..., None]).astype(np.uint8))
    cv2.imwrite(f"drawn/masks/{index}.png", mask)
pathlib.Path("drawn/classes.txt").write_text("below\nabove\n")
PYTHON
      if [ "$1" = data ]; then
        venv/bin/python -c 'import PIL, pycocotools.mask' && "$edge" data check drawn --json
      else
        "$edge" train --root drawn --epochs 1 --batch 2 --crop 96x96 --size 96x96 -o run --overwrite --json &&
          "$edge" export run/best.pt -o drawn.onnx --json
      fi
      ;;
    tensorrt-rtx) "$edge" build --runtime tensorrt-rtx --precision fp16 -o rtx.engine --json ;;
  esac
}

for python in "$@"; do
  for extra in "${extras[@]}"; do
    rm -rf venv
    "$python" -m venv venv
    if venv/bin/python -m pip --disable-pip-version-check --quiet install "${wheel}[$(with "$extra")]" >log 2>&1 &&
      work_of "$extra" >>log 2>&1; then
      echo "$("$python" -c 'import platform; print(platform.python_version())') $extra: works"
    else
      echo "$("$python" -c 'import platform; print(platform.python_version())') $extra: FAILED: $(tail -n 1 log)"
      failed=1
    fi
  done
done
exit $failed
