//! Judges programs that write to qcow2 images, as a virtual machine monitor does every day. A random
//! guest writes, discards, takes and deletes snapshots, flushes, and closes the image; a model knows
//! what it must read. After each flush and close the oracle's audit of the bytes, the model and the
//! states that a power cut may leave decide. The images that it begins with have compressed clusters,
//! subclusters, backing files, external data files, snapshots and encryption, and the disk fails where a
//! test says so.
//!
//! A program under test is a [`Writer`]. [`check_writer`] gives a [`Report`], and [`writer_tests!`]
//! makes tests for `cargo test`.

mod compressed;
mod data_file;
mod disk;
mod draw;
mod feature;
mod judge;
mod luks;
mod model;
mod operation;
mod report;
mod run;
mod sectors;
mod settings;
mod shrink;
mod start;

pub use data_file::DATA_FILE;
pub use disk::SharedDisk;
pub use draw::Mix;
pub use feature::Feature;
pub use judge::Kind;
pub use operation::Operation;
pub use report::Report;
pub use run::{check_writer, replay};
pub use settings::{
    Settings, discards, failing_operations, power_cuts, reopening, snapshots, writes,
};
pub use start::{BACKING, Start};

/// A program that writes to images.
pub trait Writer {
    /// What reports call it.
    fn name(&self) -> &str;

    /// Opens the image on a disk for writing, or says why it cannot. A program that works on files only
    /// uses [`SharedDisk::store`] here, and [`SharedDisk::load`] in [`Guest::flush`] and
    /// [`Guest::close`]. A backing file is [`SharedDisk::backing`], an external data file
    /// [`SharedDisk::data_file`]; stored, they are beside the image.
    ///
    /// An image that has any [`Feature`] may be declined when it is opened for the first time, and must
    /// be left as it is then: that is told, and no failure. An encrypted one whose key nobody has must be.
    fn open(&self, disk: SharedDisk) -> Result<Box<dyn Guest + '_>, String>;
}

/// An open image, as a guest and its operator use it. Offsets and lengths are in bytes, multiples of
/// 512. An error of any operation is a failure of the writer, as nothing that is asked here is
/// impossible, as long as the disk has not failed.
///
/// Once an operation on the disk has failed, any operation may fail until the image is opened again, and
/// a writer may go on or do nothing any more. What failed may have happened or not, each sector for
/// itself. What is said to be done is done as ever: after a flush without an error everything is there
/// that was written without one. However it ends, with a close, with one that fails, or without one, the
/// image can be opened again on a disk that is well; no cluster is used twice, no refcount is too low,
/// and what an earlier flush was for is there. Clusters may leak.
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
/// They are `writes`, `discards`, `snapshots`, `reopening`, `power_cuts` and `failing_operations`, in a
/// module `qcow2`; `writer_tests!(MyWriter, writes reopening)` makes only those named, for a writer that
/// does not support everything. One that fails says what went wrong how often, after which operations,
/// and where the image is.
#[macro_export]
macro_rules! writer_tests {
    ($writer:expr) => {
        $crate::writer_tests!($writer, writes discards snapshots reopening power_cuts failing_operations);
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
