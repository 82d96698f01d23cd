#!/usr/bin/env bash
# Prints how many compilers may run at once: one a core, and 1.5 GiB of free memory each (a container's limit included).
free=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null)
if [ "${limit:-max}" != max ] && [ $((limit / 1024)) -lt "$free" ]; then free=$((limit / 1024)); fi
jobs=$((free / 1572864))
cores=$(nproc)
[ "$jobs" -gt "$cores" ] && jobs=$cores
[ "$jobs" -lt 1 ] && jobs=1
echo "$jobs"
