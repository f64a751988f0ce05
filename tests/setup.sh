#!/bin/sh
# Installs what building and testing Fairway needs and is not there yet, on Debian 12, as root or with sudo.
# May run any number of times: what is there is left alone, and with everything there it asks nobody for anything.
set -eu

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# The rust-version of Cargo.toml.
RUST=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")

# On Debian the tools of an administrator lie where the PATH of other users does not look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:$HOME/.cargo/bin

missing=
# need PACKAGE COMMAND...: the package is missing when one of its commands is.
need() {
    package=$1; shift
    for command in "$@"; do
        if ! command -v "$command" >/dev/null 2>&1; then
            say "$command is missing: package $package"
            missing="$missing $package"
            return
        fi
    done
}

need docker.io dockerd containerd runc
need iproute2 ip ss
need iptables iptables
need gcc gcc
need make make
need curl curl
need git git
# An ACME authority for the tests.
need pebble pebble pebble-challtestsrv
# Everything is linked statically.
ls /usr/lib/*/libc.a >/dev/null 2>&1 || { say "libc.a is missing: package libc6-dev"; missing="$missing libc6-dev"; }
# The shell of the images that have one: any other busybox is linked dynamically.
dpkg -s busybox-static 2>/dev/null | grep -q '^Status: .* installed' ||
    { say "a static busybox is missing: package busybox-static"; missing="$missing busybox-static"; }
dpkg -s ca-certificates 2>/dev/null | grep -q '^Status: .* installed' || missing="$missing ca-certificates"
# Up to Debian 12 part of docker.io, later a package of its own. Any client will do.
if ! command -v docker >/dev/null 2>&1 && apt-cache show docker-cli >/dev/null 2>&1; then
    missing="$missing docker-cli"
fi

if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
    [ -z "$sudo" ] || command -v sudo >/dev/null 2>&1 ||
        fail "as root, or where sudo is installed, this script installs:$missing"
    command -v apt-get >/dev/null 2>&1 || fail "this is no Debian: install what gives the above by your own means"
    say "apt-get update"
    $sudo apt-get update -qq
    say "apt-get install$missing"
    # shellcheck disable=SC2086 # a list
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
fi

# older A B: whether version A comes before version B.
older() {
    [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

rust_help="install Rust $RUST or later with rustup (https://rustup.rs): Debian's own is older"
command -v cargo >/dev/null 2>&1 && command -v rustc >/dev/null 2>&1 || fail "there is no Rust toolchain: $rust_help"
have=$(rustc --version | cut -d ' ' -f 2)
older "$have" "$RUST.0" && fail "rustc $have is too old: $rust_help"
for part in fmt clippy; do
    cargo "$part" --version >/dev/null 2>&1 || fail "cargo $part is missing: rustup component add rustfmt clippy"
done

say "ready: rustc $have, $(dockerd --version | cut -d , -f 1), $(gcc --version | head -n 1)"
command -v cargo-nextest >/dev/null 2>&1 || say "cargo-nextest is not installed: cargo test does the same, slower"
