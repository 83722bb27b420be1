//! Criterion benches on generated images.
