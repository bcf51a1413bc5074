#!/usr/bin/env bash
# Builds wheel and sdist into dist/, twice, and compares them; checks them; installs the wheel alone into a clean venv,
# writes what is in it as dist/sbom.cdx.json (CycloneDX), and runs the demo there.
#
#   packaging/release.sh [PYTHON]     PYTHON: has the packages build, twine and cyclonedx-bom; the venv's by default
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${1:-.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH

# The time inside the archives is that of the commit, not of the build.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

say() {
  printf 'release: %s\n' "$1"
}

rm -rf dist
"$python" -m build --outdir dist . >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"$python" -m build --outdir "$work/again" . >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
for file in dist/*; do
  cmp "$file" "$work/again/$(basename "$file")"
done
say "built twice, equal: $(echo dist/*)"
"$python" -m twine check --strict dist/*.whl dist/*.tar.gz

wheel=$(echo dist/*.whl)
"$python" -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip --disable-pip-version-check --quiet)
"${pip[@]}" install "${wheel}[openvino]"
# opencv-python needs the system's libGL; a machine without it gets the build that has no windows.
"$work/venv/bin/python" -c 'import cv2' 2>/dev/null || {
  "${pip[@]}" uninstall -y opencv-python
  "${pip[@]}" install opencv-python-headless
}
"$python" -m cyclonedx_py environment --output-reproducible --of JSON -o "$work/sbom.json" "$work/venv/bin/python"
mv "$work/sbom.json" dist/sbom.cdx.json
say "wrote dist/sbom.cdx.json"

export XDG_CACHE_HOME=$work/cache
(cd "$work" && venv/bin/pspnet-edge run --input demo --frames 30 --view none --record overlay.mp4 --json >run.json &&
  venv/bin/pspnet-edge pack -o road.pspnet --json >pack.json &&
  venv/bin/pspnet-edge deploy road.pspnet --home board --measure 1 --service none --json >deploy.json)
"$work/venv/bin/python" - "$work" <<'PYTHON'
import json, pathlib, sys

work = pathlib.Path(sys.argv[1])
ran, packed, deployed = (json.loads((work / f"{name}.json").read_text()) for name in ("run", "pack", "deploy"))
assert ran["frames"] == 30 and (work / "overlay.mp4").stat().st_size > 0, ran
assert deployed["state"] == "active" and deployed["agreement"] == packed["agreement_with_fp32"]["int8"] > 0.98, deployed
print(f"release: the wheel alone runs the demo ({ran['fps']:.1f} FPS) and deploys a pack")
PYTHON
(cd dist && sha256sum ./*.whl ./*.tar.gz sbom.cdx.json >SHA256SUMS)
say "done: $(tr "\n" " " <dist/SHA256SUMS)"
