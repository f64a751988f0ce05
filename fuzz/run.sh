#!/bin/sh
# Fuzzes one target with the stable compiler:   sh fuzz/run.sh TARGET [SECONDS]      (TARGET: a file of fuzz_targets/)
#
# New inputs stay in fuzz/target/corpus; what fails in fuzz/artifacts/TARGET: mend it, and put the input into
# fuzz/corpus/TARGET, which every run of the tests replays. `sh fuzz/run.sh TARGET keep` takes over from the new inputs
# those that reach what the kept ones do not.
#
# Instead: `cargo +nightly fuzz run TARGET`, with the address sanitizer, which stable has not.
set -eu
cd "$(dirname "$0")"

target=${1:?"which target? $(ls fuzz_targets | sed 's/\.rs$//' | tr '\n' ' ')"}
seconds=${2:-600}
new=target/corpus/$target
mkdir -p "$new" "artifacts/$target" "corpus/$target"

# The instrumentation that cargo-fuzz asks for, in flags that stable takes. It replaces those of ../.cargo/config.toml: what
# is linked with C++ is linked as usual.
RUSTFLAGS='--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1'
RUSTFLAGS=$(printf '%s' "$RUSTFLAGS" | tr -s '\n ' ' ')
export RUSTFLAGS
cargo build --quiet --release --bin "$target"
program=$(ls target/*/release/"$target" | head -n 1)

if [ "$seconds" = keep ]; then
    exec nice -n 19 "$program" -set_cover_merge=1 -max_len=512 -use_counters=0 "corpus/$target" "$new"
fi
exec nice -n 19 "$program" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -max_total_time="$seconds" \
    -dict=http.dict -artifact_prefix="artifacts/$target/" -print_final_stats=1 "$new" "corpus/$target"
