#!/bin/sh
# Fairway beside nginx and haproxy, on loopback in a network namespace of its own:
#
#   sh benches/side_by_side/run.sh                           # everything, about 30 minutes; do nothing else meanwhile
#   sh benches/side_by_side/run.sh measure h1 churn          # these rows; `run.sh rows` lists them
#   sh benches/side_by_side/run.sh measure --rounds 9 h1 --write docs/performance.md
#   sh benches/side_by_side/run.sh profile h1 nginx          # where the time goes; see profile.sh
#
# FAIRWAY=/path/to/fairway measures that one; PROFILE=quick builds faster than release and measures less well.
# A namespace of its own, since a Docker engine makes the kernel track the connections of loopback: the table fills, and
# packets are dropped. Root is not needed where user namespaces are allowed.
set -eu
cd "$(dirname "$0")/../.."
PATH=$PATH:$HOME/.cargo/bin:/usr/sbin:/sbin
profile=${PROFILE:-release}

cargo build --quiet --profile "$profile" -p fairway-side-by-side
[ -n "${FAIRWAY:-}" ] || cargo build --quiet --profile "$profile" -p fairway
target=${CARGO_TARGET_DIR:-target}
program=$(ls -t "$target"/*/"$profile"/side-by-side "$target/$profile"/side-by-side 2>/dev/null | head -n 1)

[ $# -gt 0 ] || set -- measure
if [ "$(id -u)" = 0 ]; then own=; else own=--map-root-user; fi
exec unshare --net $own sh -c 'ip link set lo up && ulimit -n "$(ulimit -Hn)" && exec "$@"' sh "$program" "$@"
