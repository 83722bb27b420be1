//! Judges programs that write to qcow2 images, as a virtual machine monitor does every day. A random
//! guest writes, discards, takes and deletes snapshots, flushes, and closes the image; a model knows
//! what it must read. After each flush and close the oracle's audit of the bytes, the model and the
//! states that a power cut may leave decide.
//!
//! A program under test is a [`Writer`]. [`check_writer`] gives a [`Report`], and [`writer_tests!`]
//! makes tests for `cargo test`.

mod disk;
mod judge;
mod model;
mod operation;
mod report;
mod run;
mod sectors;
mod settings;

pub use disk::SharedDisk;
pub use judge::Kind;
pub use operation::{Mix, Operation};
pub use report::Report;
pub use run::check_writer;
pub use settings::{Settings, discards, power_cuts, reopening, snapshots, writes};

/// A program that writes to images.
pub trait Writer {
    /// What reports call it.
    fn name(&self) -> &str;

    /// Opens the image on a disk for writing, or says why it cannot. A program that works on files only
    /// uses [`SharedDisk::store`] here, and [`SharedDisk::load`] in [`Guest::flush`] and
    /// [`Guest::close`].
    fn open(&self, disk: SharedDisk) -> Result<Box<dyn Guest + '_>, String>;
}

/// An open image, as a guest and its operator use it. Offsets and lengths are in bytes, multiples of
/// 512. An error of any operation is a failure of the writer: nothing that is asked here is impossible.
pub trait Guest {
    /// Writes to the guest's disk.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String>;

    /// Says that the guest needs these bytes no more: they read as before or as zeros from then on, each
    /// sector for itself.
    fn discard(&mut self, _offset: u64, _length: u64) -> Result<Done, String> {
        Ok(Done::Unsupported)
    }

    /// Takes an internal snapshot of that name (specification, "Snapshots").
    fn snapshot(&mut self, _name: &str) -> Result<Done, String> {
        Ok(Done::Unsupported)
    }

    /// Deletes the internal snapshot of that name.
    fn delete_snapshot(&mut self, _name: &str) -> Result<Done, String> {
        Ok(Done::Unsupported)
    }

    /// Makes all that was done so far survive a power cut.
    fn flush(&mut self) -> Result<(), String>;

    /// The same, and ends the use of the image.
    fn close(self: Box<Self>) -> Result<(), String>;
}

/// What came of an operation that not every writer, or not every image, supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is done.
    Done,
    /// It is not supported, and nothing was done.
    Unsupported,
}

/// Tests of a writer: an expression whose type implements [`Writer`].
///
/// They are `writes`, `discards`, `snapshots`, `reopening` and `power_cuts`, in a module `qcow2`;
/// `writer_tests!(MyWriter, writes reopening)` makes only those named, for a writer that does not
/// support everything. One that fails says what went wrong how often, after which operations, and where
/// the image is.
#[macro_export]
macro_rules! writer_tests {
    ($writer:expr) => {
        $crate::writer_tests!($writer, writes discards snapshots reopening power_cuts);
    };
    ($writer:expr, $($test:ident)*) => {
        mod qcow2 {
            #[allow(unused_imports, reason = "the expression may be a path")]
            use super::*;

            $(
                #[test]
                fn $test() {
                    let mut report = $crate::check_writer(&$writer, &$crate::$test());
                    if let Some(folder) = option_env!("CARGO_TARGET_TMPDIR") {
                        report.store(std::path::Path::new(folder), stringify!($test));
                    }
                    report.check();
                }
            )*
        }
    };
}
