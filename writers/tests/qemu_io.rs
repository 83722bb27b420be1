//! qemu-io and `qemu-img snapshot`, by command, on a file. What they are asked for is done at the next
//! flush, snapshot or close, all at once; nobody sees in which order they write.

use std::path::Path;
use std::process::Command;

use recount_needs::needs;
use recount_writers::{Done, Guest, Settings, SharedDisk, Writer, check_writer};
use tempfile::TempDir;

const IMAGE: &str = "image.qcow2";

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
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let stored = disk.store(&folder.path().join(IMAGE));
        stored.map_err(|error| error.to_string())?;
        Ok(Box::new(Open {
            disk,
            folder,
            commands: Vec::new(),
            files: 0,
        }))
    }
}

fn run(folder: &Path, program: &str, arguments: &[String]) -> Result<(), String> {
    let mut command = Command::new(program);
    let output = command.args(arguments).current_dir(folder).output();
    let output = output.map_err(|error| error.to_string())?;
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() && said.is_empty() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    Err(format!("{program} ends with {}: {said}", output.status))
}

impl Open {
    fn run_commands(&mut self) -> Result<(), String> {
        if self.commands.is_empty() {
            return Ok(());
        }
        // The machine does not fail meanwhile, so that nothing has to reach the disk.
        let mut arguments: Vec<String> = ["-f", "qcow2", "-d", "unmap", "-t", "unsafe"]
            .map(str::to_owned)
            .to_vec();
        for command in self.commands.drain(..) {
            arguments.extend(["-c".to_owned(), command]);
        }
        arguments.push(IMAGE.to_owned());
        run(self.folder.path(), "qemu-io", &arguments)
    }

    fn qemu_img(&mut self, option: &str, name: &str) -> Result<Done, String> {
        self.run_commands()?;
        let arguments = ["snapshot", option, name, IMAGE].map(str::to_owned);
        run(self.folder.path(), "qemu-img", &arguments)?;
        Ok(Done::Done)
    }
}

impl Guest for Open {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        let file = format!("{}.bin", self.files);
        self.files += 1;
        let stored = std::fs::write(self.folder.path().join(&file), bytes);
        stored.map_err(|error| error.to_string())?;
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
        self.run_commands()?;
        let loaded = self.disk.load(&self.folder.path().join(IMAGE));
        loaded.map_err(|error| error.to_string())
    }

    fn close(mut self: Box<Self>) -> Result<(), String> {
        self.flush()
    }
}

#[needs(qemu)]
#[test]
fn qemu_io_keeps_what_a_guest_writes() {
    let settings = Settings {
        runs: 10,
        // One bit counts no snapshot.
        refcount_orders: vec![4, 2, 3, 5, 6],
        power_cuts: None,
        ..Settings::default()
    };
    let report = check_writer(&QemuIo, &settings);
    println!("{report}");
    report.check();
}
