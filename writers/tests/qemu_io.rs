//! qemu-io and `qemu-img snapshot`, by command, on a file. What they are asked for is done at the next
//! flush, snapshot or close, all at once. QEMU's driver `blklogwrites` logs in which order they write, so
//! that there are power cuts.

use std::process::Command;
use std::{fs, io};

use recount_needs::needs;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::disk::{Disk as _, log};
use recount_writers::{
    BACKING, Done, Guest, Kind, Settings, SharedDisk, Start, Writer, check_writer,
};
use tempfile::TempDir;

const IMAGE: &str = "image.qcow2";
const LOG: &str = "log";

struct QemuIo;

struct Open {
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
        Ok(Box::new(Open {
            disk,
            folder,
            commands: Vec::new(),
            files: 0,
        }))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn text(error: io::Error) -> String {
    error.to_string()
}

impl Open {
    /// The image with a log of what is written to it, as an option of both programs.
    fn logged() -> [String; 2] {
        let log = format!("file.log.driver=file,file.log.filename={LOG},file.log-sector-size=512");
        let file = format!("file.file.driver=file,file.file.filename={IMAGE}");
        let image = format!("driver=qcow2,discard=unmap,file.driver=blklogwrites,{file},{log}");
        ["--image-opts".to_owned(), image]
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
        arguments.extend(Self::logged());
        self.run("qemu-io", &arguments)
    }

    fn qemu_img(&mut self, option: &str, name: &str) -> Result<Done, String> {
        self.run_commands()?;
        let mut arguments = ["snapshot", option, name].map(str::to_owned).to_vec();
        arguments.extend(Self::logged());
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
    let report = check_writer(&QemuIo, &settings);
    println!("{report}");
    report.check();
    assert!(report.power_cuts() > 500, "{report}");
    assert_eq!(report.declined().count(), 0, "{report}");
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
    let report = check_writer(&QemuIo, &settings);
    println!("{report}");
    let failed: Vec<Kind> = report.failed().map(|(kind, _)| kind).collect();
    assert_eq!(failed, [Kind::LeaksAfterClose], "{report}");
}

/// Images as qemu-img makes them, by options of `create` and commands of qemu-io; of each the name of
/// its backing file is in the header, and the file is beside it.
const MADE: [(&str, &[&str]); 4] = [
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
];

fn made((options, commands): (&str, &[&str])) -> Result<Start, String> {
    let folder = TempDir::new().map_err(text)?;
    let file = |name| folder.path().join(name);
    // Shorter than the disk.
    let backing: Vec<u8> = (1..=200).flat_map(|sector| [sector; 512]).collect();
    fs::write(file(BACKING), &backing).map_err(text)?;
    let mut create = vec!["create", "-q", "-f", "qcow2", "-o", options, IMAGE, "200k"];
    let mut write: Vec<&str> = commands
        .iter()
        .flat_map(|command| ["-c", *command])
        .collect();
    write.push(IMAGE);
    for (program, arguments) in [("qemu-img", &mut create), ("qemu-io", &mut write)] {
        let mut command = Command::new(program);
        let output = command.args(arguments).current_dir(folder.path()).output();
        let output = output.map_err(text)?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    let sparse = |bytes: Vec<u8>| {
        let mut sparse = SparseBytes::default();
        sparse.put(0, &bytes);
        sparse
    };
    let backing = options.contains(BACKING).then(|| sparse(backing));
    Start::new(sparse(fs::read(file(IMAGE)).map_err(text)?), backing)
}

#[needs(qemu)]
#[test]
fn images_that_qemu_img_makes_are_kept_by_qemu_io_as_well() {
    let settings = Settings {
        runs: 4,
        images: MADE.map(|image| made(image).unwrap()).to_vec(),
        ..settings()
    };
    let report = check_writer(&QemuIo, &settings);
    println!("{report}");
    report.check();
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
        images: vec![made(lazy).unwrap()],
        ..settings()
    };
    let report = check_writer(&QemuIo, &settings);
    println!("{report}");
    let failed: Vec<Kind> = report.failed().map(|(kind, _)| kind).collect();
    assert_eq!(failed, [Kind::Unreadable], "{report}");
    let said = report.to_string();
    assert!(
        said.contains("past the end of the file, after a power cut"),
        "{said}"
    );
}
