#!/bin/sh
# Checks the dependencies against deny.toml; says plainly what it could not check.
set -eu
cd "$(dirname "$0")/.."

if ! command -v cargo-deny >/dev/null 2>&1; then
    echo "deny: SKIPPED, cargo-deny is not installed (cargo install cargo-deny --locked)"
    exit 0
fi
cargo deny check bans licenses sources
if cargo deny fetch db >/dev/null 2>&1; then
    cargo deny check advisories
else
    echo "deny: advisories SKIPPED, their database cannot be fetched here"
fi
