#!/bin/sh
# Where the time of one row goes: CPU, system calls and instructions per request, hottest symbols.
#
#   sh benches/side_by_side/profile.sh [ROW [nginx|haproxy|fairway]]        # h1 and fairway without
#
# Needs linux-perf, strace, and valgrind where the processor's counters cannot be read (most virtual machines).
set -eu
exec sh "$(dirname "$0")/run.sh" profile "${1:-h1}" "${2:-fairway}"
