//! A qemu-io that runs as long as the image is open.

mod options;

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use recount_oracle::case::Fault;
use recount_oracle::disk::{Disk as _, Trace, log};
use recount_writers::{DATA_FILE, Done, Guest, SharedDisk, Writer};
use tempfile::TempDir;

const IMAGE: &str = "image.qcow2";
const LOG: &str = "log";
/// What it says of errors when it is closed.
const ERRORS: &str = "errors";
/// What is to be written.
const DATA: &str = "data";
/// What it says when it waits for a command.
const PROMPT: &[u8] = b"qemu-io> ";
/// A flush of which it tells an error: the command `flush` tells none.
const FLUSH: &str = "write -q -f 0 0";

pub struct QemuIo;

impl Writer for QemuIo {
    fn name(&self) -> &'static str {
        "live-qemu-io"
    }

    fn open(&self, disk: SharedDisk) -> Result<Box<dyn Guest + '_>, String> {
        let folder = TempDir::new().map_err(text)?;
        disk.store(&folder.path().join(IMAGE)).map_err(text)?;
        let mut open = Open {
            disk,
            folder,
            program: None,
            faults: Vec::new(),
            replayed: 0,
        };
        open.start()?;
        Ok(Box::new(open))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn text(error: io::Error) -> String {
    error.to_string()
}

struct Open {
    disk: SharedDisk,
    folder: TempDir,
    /// Nothing where it could not be started again.
    program: Option<Program>,
    /// What is still to fail, as it was after the last command.
    faults: Vec<Fault>,
    /// How many events of the log were done to the disk.
    replayed: usize,
}

struct Program {
    child: Child,
    commands: ChildStdin,
    said: ChildStdout,
}

impl Program {
    /// What it says until it waits for a command, or until it ends, and whether it waits.
    fn said(&mut self) -> io::Result<(String, bool)> {
        let mut said = Vec::new();
        let mut byte = [0];
        while !said.ends_with(PROMPT) && self.said.read(&mut byte)? > 0 {
            said.extend(byte);
        }
        let (said, waits) = match said.strip_suffix(PROMPT) {
            Some(said) => (said, true),
            None => (&said[..], false),
        };
        Ok((String::from_utf8_lossy(said).into_owned(), waits))
    }
}

impl Open {
    fn start(&mut self) -> Result<(), String> {
        self.faults = self.disk.faults();
        self.replayed = 0;
        let file = |name| File::create(self.folder.path().join(name)).map_err(text);
        file(LOG)?;
        let mut command = Command::new("qemu-io");
        command.args(["-d", "unmap", "--image-opts"]);
        command.arg(options::of(&self.faults, IMAGE, LOG));
        command.current_dir(self.folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(file(ERRORS)?).spawn().map_err(text)?;
        let pipes = (child.stdin.take(), child.stdout.take());
        let (Some(commands), Some(said)) = pipes else {
            return Err("qemu-io has no pipes".to_owned());
        };
        let program = Program {
            child,
            commands,
            said,
        };
        let program = self.program.insert(program);
        let (_, waits) = program.said().map_err(text)?;
        if waits {
            return Ok(());
        }
        self.end("")?;
        Err("qemu-io says nothing and ends".to_owned())
    }

    /// Has it do something; what it says is an error.
    fn ask(&mut self, command: &str) -> Result<(), String> {
        if self.disk.faults() != self.faults {
            self.end("quit\n")?;
            self.start()?;
        }
        let program = self.program.as_mut().ok_or("qemu-io has ended")?;
        writeln!(program.commands, "{command}").map_err(text)?;
        let (said, waits) = program.said().map_err(text)?;
        if !waits {
            self.program = None;
            return Err(format!("qemu-io ends: {said}"));
        }
        self.judge(&said)
    }

    /// Ends it, with a last command or as it ends itself.
    fn end(&mut self, command: &str) -> Result<(), String> {
        let mut program = self.program.take().ok_or("qemu-io has ended")?;
        // It may have ended already.
        let _ = program.commands.write_all(command.as_bytes());
        drop(program.commands);
        let mut said = String::new();
        program.said.read_to_string(&mut said).map_err(text)?;
        program.child.wait().map_err(text)?;
        said += &fs::read_to_string(self.folder.path().join(ERRORS)).map_err(text)?;
        self.judge(&said)?;
        self.take_over()
    }

    /// Returns what was said as an error, which may be one of the disk.
    fn judge(&mut self, said: &str) -> Result<(), String> {
        if said.is_empty() {
            return Ok(());
        }
        if let Some(fault) = self.faults.first() {
            self.disk.tell_failure(fault.operation);
        }
        self.take_over()?;
        Err(said.trim_end().to_owned())
    }

    /// Does to the disk what was done to the file.
    fn take_over(&mut self) -> Result<(), String> {
        // There is no log of what is written to the data file.
        if let Some(data_file) = self.disk.data_file() {
            let file = self.folder.path().join(DATA_FILE);
            data_file.load(&file).map_err(text)?;
        }
        let log = fs::read(self.folder.path().join(LOG)).map_err(text)?;
        // As long as nothing was written it is empty.
        if !log.is_empty() {
            let mut trace = log::read(&log).map_err(|error| error.to_string())?;
            let events = trace.events.split_off(self.replayed);
            self.replayed += events.len();
            self.disk.replay(&Trace { events }).map_err(text)?;
        }
        self.faults = self.disk.faults();
        let file = fs::read(self.folder.path().join(IMAGE)).map_err(text)?;
        if file.len() as u64 != self.disk.len() || self.disk.bytes().bytes(0, file.len()) != file {
            return Err("the log of qemu-io does not lead to its file".to_owned());
        }
        Ok(())
    }
}

impl Guest for Open {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        fs::write(self.folder.path().join(DATA), bytes).map_err(text)?;
        self.ask(&format!("write -q -s {DATA} {offset} {}", bytes.len()))
    }

    fn discard(&mut self, offset: u64, length: u64) -> Result<Done, String> {
        self.ask(&format!("discard -q {offset} {length}"))?;
        Ok(Done::Done)
    }

    fn flush(&mut self) -> Result<(), String> {
        self.ask(FLUSH)?;
        self.take_over()
    }

    fn close(mut self: Box<Self>) -> Result<(), String> {
        self.end("quit\n")
    }
}

/// It is killed, where it was not closed.
impl Drop for Open {
    fn drop(&mut self) {
        if let Some(mut program) = self.program.take() {
            let killed = program.child.kill().and_then(|()| program.child.wait());
            let taken = killed.map_err(text).and_then(|_| self.take_over());
            assert!(taken.is_ok() || std::thread::panicking(), "{taken:?}");
        }
    }
}
