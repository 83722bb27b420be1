//! Images of many kinds, as qemu-img makes them.

use recount_writers::Start;

use crate::made;

/// Options of `create` and commands of qemu-io.
const ALL: [(&str, &[&str]); 7] = [
    (
        "compat=1.1,cluster_size=4k",
        &[
            "write -q -c -P 1 0 4k",
            "write -q -c -P 2 4k 4k",
            "write -q -P 3 12k 8k",
        ],
    ),
    (
        "extended_l2=on,cluster_size=16k",
        &[
            "write -q -P 1 1k 2k",
            "write -q -z 8k 4k",
            "write -q -c -P 2 32k 16k",
        ],
    ),
    (
        "backing_file=backing.raw,backing_fmt=raw,cluster_size=512",
        &["write -q -P 1 1k 512", "write -q -z 4k 2k"],
    ),
    (
        "extended_l2=on,backing_file=backing.raw,backing_fmt=raw,cluster_size=64k",
        &[
            "write -q -P 1 2k 4k",
            "write -q -z 66k 4k",
            "write -q -c -P 2 128k 64k",
        ],
    ),
    (
        "compression_type=zstd,cluster_size=4k",
        &[
            "write -q -c -P 1 0 4k",
            "write -q -c -P 2 4k 4k",
            "write -q -P 3 12k 8k",
        ],
    ),
    (
        "data_file=data.raw,cluster_size=4k",
        &["write -q -P 1 0 8k", "write -q -z 4k 2k"],
    ),
    (
        "data_file=data.raw,data_file_raw=on,cluster_size=4k",
        &["write -q -P 1 0 8k", "write -q -z 4k 2k"],
    ),
];

/// All of them.
pub fn all() -> Vec<Start> {
    let made = ALL.map(made::image);
    made.map(|made| made.expect("qemu-img makes images"))
        .to_vec()
}
