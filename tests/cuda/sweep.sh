# sweep.sh — for first.sh and stages.sh: ends what a command has started, in whatever process group or session that is.
# shellcheck shell=bash

# sweep NAME=VALUE: kills every process that was started with this in its environment; false if one cannot be killed
sweep() {
  local left
  for _ in {1..20}; do
    mapfile -t left < <(grep -lsz "^$1\$" /proc/[0-9]*/environ | cut -d/ -f3)
    [ ${#left[@]} -gt 0 ] || return 0
    kill -KILL "${left[@]}" 2> /dev/null
    sleep 0.05
  done
  echo "processes ${left[*]} cannot be killed: they may be waiting for the driver" >> "$LOG"
  return 1
}
