#!/usr/bin/env bash
# Power mode and clocks of a Jetson, with what was set before kept for going back.
#
#   sudo jetson/power.sh status         what is set
#   sudo jetson/power.sh max            the fastest mode of this board, clocks locked
#   sudo jetson/power.sh mode NAME|ID   a mode of /etc/nvpmodel.conf, clocks locked
#   sudo jetson/power.sh restore        what was set before the first max or mode
set -euo pipefail

readonly MODES=${NVPMODEL_CONF:-/etc/nvpmodel.conf}
readonly SYS=${SYSFS:-/sys}
readonly STATE=${STATE_DIRECTORY:-/var/lib/pspnet-edge/power}

die() {
  printf 'power: %s\n' "$1" >&2
  exit 1
}

# "ID NAME" of each mode.
modes() {
  sed -nE 's/^ *< *POWER_MODEL +ID=([0-9]+) +NAME=([^ >]+) *>.*/\1 \2/p' "$MODES"
}

# MAXN has no limit; of the others the most watts.
fastest() {
  modes | awk '{
    watts = $2 ~ /MAXN/ ? 1e9 : (match($2, /[0-9]+W/) ? substr($2, RSTART, RLENGTH - 1) + 0 : 0)
    if (!best || watts > best) { best = watts; id = $1 }
  } END { print id }'
}

current_id() {
  nvpmodel -q | awk '/^[0-9]+$/ { id = $1 } END { print id }'
}

name_of() {
  modes | awk -v id="$1" '$1 == id { print $2 }'
}

# Whether every clock's lowest is its highest.
clocks_locked() {
  local folder low high found=
  for folder in "$SYS"/devices/system/cpu/cpu[0-9]*/cpufreq "$SYS"/class/devfreq/{*gpu,*ga10b,gpu-gpc-*}; do
    [ -d "$folder" ] || continue
    case $folder in
      */cpufreq) low=scaling_min_freq high=scaling_max_freq ;;
      *) low=min_freq high=max_freq ;;
    esac
    [ "$(cat "$folder/$low")" = "$(cat "$folder/$high")" ] || return 1
    found=yes
  done
  [ -n "$found" ]
}

status() {
  local clocks=free
  ! clocks_locked || clocks=locked
  printf 'mode %s (%s), clocks %s\n' "$(name_of "$(current_id)")" "$(current_id)" "$clocks"
}

keep() {
  [ ! -e "$STATE/mode" ] || return 0
  mkdir -p "$STATE"
  # jetson_clocks refuses to overwrite its own file.
  rm -f "$STATE/clocks"
  jetson_clocks --store "$STATE/clocks" </dev/null || die "jetson_clocks cannot store the clocks to $STATE/clocks: run this with sudo"
  current_id >"$STATE/mode.new"
  mv "$STATE/mode.new" "$STATE/mode"
}

set_mode() {
  [ "$(current_id)" != "$1" ] || return 0
  # Some modes need a reboot, and nvpmodel asks for it on standard input: not from here.
  nvpmodel -m "$1" </dev/null || true
  [ "$(current_id)" = "$1" ] ||
    die "mode $(name_of "$1") is not set, $(name_of "$(current_id)") is: it needs a reboot, so run sudo nvpmodel -m $1 and answer yes"
}

fast() {
  [ -n "$(name_of "$1")" ] || die "there is no mode $1: choose one of $(modes | awk '{ printf "%s%s (%s)", sep, $2, $1; sep = ", " }')"
  keep
  set_mode "$1"
  jetson_clocks
  clocks_locked || die "jetson_clocks ran and the clocks are not locked: see sudo jetson_clocks --show"
  status
}

restore() {
  local before
  [ -e "$STATE/mode" ] || die "nothing was changed that could be restored: $STATE/mode is missing"
  before=$(cat "$STATE/mode")
  jetson_clocks --restore "$STATE/clocks"
  set_mode "$before"
  rm -f "$STATE/mode" "$STATE/clocks"
  status
}

id_of() {
  modes | awk -v wanted="$1" '$1 == wanted || $2 == wanted { print $1; exit }'
}

for tool in nvpmodel jetson_clocks; do
  command -v "$tool" >/dev/null || die "there is no $tool here: only a Jetson has power modes"
done
[ -r "$MODES" ] || die "$MODES, which lists the power modes of this board, cannot be read"

case ${1:-} in
  status) status ;;
  max) fast "$(fastest)" ;;
  mode)
    [ $# -eq 2 ] || die "say which: sudo jetson/power.sh mode NAME"
    id=$(id_of "$2")
    fast "${id:-$2}"
    ;;
  restore) restore ;;
  *) die "say what to do: status, max, mode NAME or restore" ;;
esac
