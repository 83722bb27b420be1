#!/usr/bin/env bash
# Builds every fuzz target into $OUT, with its seeds and its dictionary, as ClusterFuzzLite and
# OSS-Fuzz want them. $SRC is where the repository was copied to.
set -euo pipefail
cd "$SRC/recount"

# libFuzzer's own code needs no sanitizer; the rest is in fuzz/rustc and oracle/src/fuzz/settings.rs.
export CXXFLAGS="${CXXFLAGS:+$CXXFLAGS }-fno-sanitize=all"
cargo fuzz build
host=$(rustc -vV | sed -n 's/^host: //p')
release=${CARGO_TARGET_DIR:-target}/$host/release
for target in $(cargo fuzz list); do
    cp "$release/$target" "$OUT/"
    (cd "corpus/$target" && zip --quiet --recurse-paths - .) >"$OUT/${target}_seed_corpus.zip"
    if [[ -e fuzz/$target.dict ]]; then cp "fuzz/$target.dict" "$OUT/"; fi
done
