#!/usr/bin/env bash
# Builds every fuzz target into $OUT, with its seeds and its dictionary, as ClusterFuzzLite and
# OSS-Fuzz want them. $SRC is where the repository was copied to.
set -euo pipefail
cd "$SRC/recount"

# The image of OSS-Fuzz has nightly as its default; elsewhere it is asked for.
toolchain=()
if ! cargo --version | grep -q nightly; then toolchain=(rustup run nightly); fi

# As `cargo xtask fuzz` builds them: docs/fuzzing.md, "Speed".
RUSTC_WORKSPACE_WRAPPER=$(pwd -P)/fuzz/rustc-engine-only
CXXFLAGS="${CXXFLAGS:+$CXXFLAGS }-fno-sanitize=all"
export RUSTC_WORKSPACE_WRAPPER CXXFLAGS
"${toolchain[@]}" cargo fuzz build --no-trace-compares
host=$("${toolchain[@]}" rustc -vV | sed -n 's/^host: //p')
release=${CARGO_TARGET_DIR:-target}/$host/release
for target in $("${toolchain[@]}" cargo fuzz list); do
    cp "$release/$target" "$OUT/"
    (cd "corpus/$target" && zip --quiet --recurse-paths - .) >"$OUT/${target}_seed_corpus.zip"
    printf '[libfuzzer]\nentropic_scale_per_exec_time = 1\n' >"$OUT/$target.options"
    if [[ -e fuzz/$target.dict ]]; then cp "fuzz/$target.dict" "$OUT/"; fi
done
