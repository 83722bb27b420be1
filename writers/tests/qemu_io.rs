//! qemu-io and `qemu-img snapshot`, by command, on a file. What they are asked for is done at the next
//! flush, snapshot or close, all at once. QEMU's driver `blklogwrites` logs in which order they write, so
//! that there are power cuts.

mod kinds;
mod made;

use std::process::Command;
use std::{fs, io};

use recount_needs::needs;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::disk::{Disk as _, log};
use recount_writers::{
    DATA_FILE, Done, Feature, Guest, Kind, Settings, SharedDisk, Start, Writer, check_writer,
    replay,
};
use tempfile::TempDir;

const IMAGE: &str = "image.qcow2";
const LOG: &str = "log";

/// With the passphrase of encrypted images, or without one.
struct QemuIo(Option<&'static str>);

struct Open {
    words: Option<&'static str>,
    disk: SharedDisk,
    folder: TempDir,
    /// Commands of qemu-io that are still to be run.
    commands: Vec<String>,
    /// How many files with what is written there are.
    files: u32,
}

impl Writer for QemuIo {
    fn name(&self) -> &'static str {
        "qemu-io"
    }

    fn open(&self, disk: SharedDisk) -> Result<Box<dyn Guest + '_>, String> {
        let folder = TempDir::new().map_err(text)?;
        disk.store(&folder.path().join(IMAGE)).map_err(text)?;
        let mut image = Open {
            words: self.0,
            disk,
            folder,
            commands: Vec::new(),
            files: 0,
        };
        // Whether it opens the image at all.
        image.commands.push("quit".to_owned());
        image.run_commands()?;
        Ok(Box::new(image))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn text(error: io::Error) -> String {
    error.to_string()
}

/// The option of both programs that has the key.
fn secret(words: &str) -> [String; 2] {
    ["--object".to_owned(), format!("secret,id=key,data={words}")]
}

impl Open {
    /// The image with a log of what is written to it, as options of both programs.
    fn logged(&self) -> Vec<String> {
        let log = format!("file.log.driver=file,file.log.filename={LOG},file.log-sector-size=512");
        let file = format!("file.file.driver=file,file.file.filename={IMAGE}");
        // The log has every flush; the machine's own disk need not wait for them.
        let fast = "file.log.cache.no-flush=on,file.file.cache.no-flush=on";
        let image =
            format!("driver=qcow2,discard=unmap,file.driver=blklogwrites,{file},{log},{fast}");
        let mut options = vec!["--image-opts".to_owned(), image];
        if let Some(words) = self.words {
            options[1] += ",encrypt.key-secret=key";
            options.splice(0..0, secret(words));
        }
        options
    }

    /// Runs a program on the image, and does to the disk what it has done to the file.
    fn run(&mut self, program: &str, arguments: &[String]) -> Result<(), String> {
        let folder = self.folder.path();
        fs::write(folder.join(LOG), []).map_err(text)?;
        let mut command = Command::new(program);
        let output = command.args(arguments).current_dir(folder).output();
        let output = output.map_err(text)?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let ended = if output.status.success() && said.is_empty() {
            Ok(())
        } else {
            Err(format!("{program} ends with {}: {said}", output.status))
        };
        // There is no log of what is written to the data file.
        if let Some(data_file) = self.disk.data_file() {
            data_file.load(&folder.join(DATA_FILE)).map_err(text)?;
        }
        let log = fs::read(folder.join(LOG)).map_err(text)?;
        if log.is_empty() {
            // Nothing was written.
            return ended;
        }
        let trace = log::read(&log).map_err(|error| error.to_string())?;
        self.disk.replay(&trace).map_err(text)?;
        // The log does not tell of a new length.
        let file = fs::read(folder.join(IMAGE)).map_err(text)?;
        if file.len() as u64 != self.disk.len() {
            self.disk.set_len(file.len() as u64).map_err(text)?;
            self.disk.flush().map_err(text)?;
        }
        let same = self.disk.bytes().bytes(0, file.len()) == file;
        if !same {
            return Err(format!("the log of {program} does not lead to its file"));
        }
        ended
    }

    fn run_commands(&mut self) -> Result<(), String> {
        if self.commands.is_empty() {
            return Ok(());
        }
        let mut arguments = vec!["-d".to_owned(), "unmap".to_owned()];
        for command in self.commands.drain(..) {
            arguments.extend(["-c".to_owned(), command]);
        }
        arguments.extend(self.logged());
        self.run("qemu-io", &arguments)
    }

    fn qemu_img(&mut self, option: &str, name: &str) -> Result<Done, String> {
        self.run_commands()?;
        let mut arguments = ["snapshot", option, name].map(str::to_owned).to_vec();
        arguments.extend(self.logged());
        match self.run("qemu-img", &arguments) {
            Ok(()) => Ok(Done::Done),
            // A refcount cannot count one more.
            Err(why) if why.contains("Could not create snapshot") => Ok(Done::Unsupported),
            Err(why) => Err(why),
        }
    }
}

impl Guest for Open {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        let file = format!("{}.bin", self.files);
        self.files += 1;
        fs::write(self.folder.path().join(&file), bytes).map_err(text)?;
        let length = bytes.len();
        let command = format!("write -q -s {file} {offset} {length}");
        self.commands.push(command);
        Ok(())
    }

    fn discard(&mut self, offset: u64, length: u64) -> Result<Done, String> {
        self.commands.push(format!("discard -q {offset} {length}"));
        Ok(Done::Done)
    }

    fn snapshot(&mut self, name: &str) -> Result<Done, String> {
        self.qemu_img("-c", name)
    }

    fn delete_snapshot(&mut self, name: &str) -> Result<Done, String> {
        self.qemu_img("-d", name)
    }

    fn flush(&mut self) -> Result<(), String> {
        self.run_commands()
    }

    fn close(mut self: Box<Self>) -> Result<(), String> {
        self.flush()
    }
}

/// What is asked of it; see docs/findings-elsewhere.md for what is not.
fn settings() -> Settings {
    Settings {
        // Narrower ones cannot count some snapshots.
        refcount_orders: vec![4, 3, 5, 6],
        stale_is_allowed: true,
        leaks_fail: true,
        ..Settings::default()
    }
}

#[needs(qemu)]
#[test]
fn qemu_io_keeps_what_a_guest_writes() {
    let settings = Settings {
        runs: 8,
        ..settings()
    };
    let report = check_writer(&QemuIo(None), &settings);
    println!("{report}");
    report.check();
    assert!(report.power_cuts() > 500, "{report}");
    for (why, _, features) in report.declined() {
        assert!(features.contains(&Feature::Encrypted), "{report}");
        assert!(why.contains("encrypt.key-secret"), "{why}");
    }
}

/// Finding 1 of docs/findings-elsewhere.md, where it is worst, is still there.
#[needs(qemu)]
#[test]
fn a_power_cut_after_a_discard_may_leave_compressed_clusters_that_nobody_can_read() {
    // The second cluster is whole, so that the discard of the first is as well.
    let compressed = &["write -q -c -P 1 0 64k", "write -q -P 2 64k 64k"][..];
    let compressed = ("cluster_size=64k", compressed);
    let settings = Settings {
        images: vec![made::image(compressed).unwrap()],
        ..settings()
    };
    let discard = "discard 65536 bytes at 0x0; close and open";
    let report = replay(&QemuIo(None), &settings, 0, discard).unwrap();
    println!("{report}");
    let failed: Vec<Kind> = report.failed().map(|(kind, _)| kind).collect();
    assert_eq!(failed, [Kind::Unreadable], "{report}");
    let said = report.to_string();
    assert!(said.contains("no compressed data"), "{said}");
}

/// Finding 2 of docs/findings-elsewhere.md is still there.
#[needs(qemu)]
#[test]
fn a_snapshot_that_refcounts_cannot_count_leaks_clusters() {
    let settings = Settings {
        runs: 4,
        refcount_orders: vec![0],
        features: Vec::new(),
        power_cuts: None,
        ..settings()
    };
    let report = check_writer(&QemuIo(None), &settings);
    println!("{report}");
    let failed: Vec<Kind> = report.failed().map(|(kind, _)| kind).collect();
    assert_eq!(failed, [Kind::LeaksAfterClose], "{report}");
}

#[needs(qemu)]
#[test]
fn images_that_qemu_img_makes_are_kept_by_qemu_io_as_well() {
    let images = kinds::all();
    let settings = Settings {
        runs: images.len() as u32,
        images,
        ..settings()
    };
    let report = check_writer(&QemuIo(None), &settings);
    println!("{report}");
    report.check();
    assert_eq!(report.declined().count(), 0, "{report}");
}

/// What encrypted images are made with.
const WORDS: &str = "recount";

/// An encrypted image with some data.
fn encrypted() -> Result<Start, String> {
    let folder = TempDir::new().map_err(text)?;
    let options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10,cluster_size=4k";
    let create = ["create", "-q", "-f", "qcow2", "-o", options, IMAGE, "200k"];
    let write = [
        "-c",
        "write -q -P 1 0 8k",
        "-c",
        "write -q -z 4k 4k",
        "--image-opts",
    ];
    let image =
        format!("driver=qcow2,encrypt.key-secret=key,file.driver=file,file.filename={IMAGE}");
    let write = [&write[..], &[&image]].concat();
    for (program, arguments) in [("qemu-img", &create[..]), ("qemu-io", &write)] {
        let mut command = Command::new(program);
        command.current_dir(folder.path());
        // The name of what qemu-img does comes first.
        let (first, rest) = arguments.split_at(usize::from(program == "qemu-img"));
        command.args(first).args(secret(WORDS)).args(rest);
        let output = command.output().map_err(text)?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    let mut bytes = SparseBytes::default();
    bytes.put(0, &fs::read(folder.path().join(IMAGE)).map_err(text)?);
    assert!(Start::with_passphrase(bytes.clone(), "another").is_err());
    Start::with_passphrase(bytes, WORDS)
}

#[needs(qemu)]
#[test]
fn an_encrypted_image_is_kept_by_who_has_its_key_and_declined_by_others() {
    let settings = Settings {
        runs: 2,
        images: vec![encrypted().unwrap()],
        ..settings()
    };
    let report = check_writer(&QemuIo(Some(WORDS)), &settings);
    println!("{report}");
    report.check();
    assert_eq!(report.declined().count(), 0, "{report}");
    let report = check_writer(&QemuIo(None), &settings);
    assert_eq!(report.failed().count(), 0, "{report}");
    let declined: Vec<_> = report.declined().collect();
    let [(why, 2, features)] = declined[..] else {
        panic!("{report}");
    };
    assert!(why.contains("encrypt.key-secret"), "{why}");
    assert!(features.contains(&Feature::Encrypted), "{report}");
}

/// Finding 3 of docs/findings-elsewhere.md is still there.
#[needs(qemu)]
#[test]
fn with_lazy_refcounts_an_entry_may_lead_past_the_end_after_a_power_cut() {
    let lazy = (
        "lazy_refcounts=on,cluster_size=4k",
        &["write -q -P 1 0 4k"][..],
    );
    let settings = Settings {
        runs: 2,
        images: vec![made::image(lazy).unwrap()],
        ..settings()
    };
    let report = check_writer(&QemuIo(None), &settings);
    println!("{report}");
    let failed: Vec<Kind> = report.failed().map(|(kind, _)| kind).collect();
    assert_eq!(failed, [Kind::Unreadable], "{report}");
    let said = report.to_string();
    assert!(
        said.contains("past the end of the file, after a power cut"),
        "{said}"
    );
}
