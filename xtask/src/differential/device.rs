//! Devices that cannot grow: the same bytes behind qemu-nbd, whose exports have a fixed size, for
//! qemu-img, and on fixed-size storage for recount; or, as root, on a loop device for both. Who
//! repairs what there is room for?

mod block;
mod room;

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use recount_oracle::audit;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::Said;
use recount_oracle::class::Class;
use recount_oracle::properties::Verdict;

use super::exhibit::Exhibit;
use super::judge::has_wrong_refcounts;
use super::question::Question;
use super::specified::as_specified;
use super::subject::program::{self, Limits};
use super::subject::{Checker, Engine, Repair, said};
use crate::error::Result;
use block::LoopDevice;

/// The bytes of the device.
const DEVICE: &str = "device";
/// Where qemu-nbd listens.
const SOCKET: &str = "nbd";
/// What a server says first (NBD protocol, "Newstyle negotiation").
const GREETING: [u8; 8] = *b"NBDMAGIC";
/// How long qemu-nbd may take to answer.
const READY: Duration = Duration::from_secs(10);
/// Clusters of the device after the end of the image.
const SPARE: [u64; 4] = [0, 1, 2, 8];
/// Devices of more clusters are not searched for room.
const MOST_CLUSTERS: u64 = 1 << 11;

/// A damaged image on a device that is full at its end.
pub struct Device<'a> {
    exhibit: Exhibit<'a>,
    /// Where new structures could be placed; `None` where there is no room.
    room: Option<room::Place>,
    /// Whether it is to be a loop device, where one can be had.
    is_block: bool,
}

impl<'a> Device<'a> {
    /// The device of the case at this place of a run; `None` where nothing has to be built anew, or
    /// there is too much to search.
    pub fn of(exhibit: &Exhibit<'a>, index: u64) -> Option<Self> {
        let audit = exhibit.audit.as_ref()?;
        let size = audit.header.cluster_size();
        let turn = index / super::examine::EVERY;
        let spare = SPARE[(turn % SPARE.len() as u64) as usize];
        let clusters = exhibit.length().div_ceil(size) + spare;
        if !audit.qemu.rebuild_needed || clusters > MOST_CLUSTERS {
            return None;
        }
        let mut bytes = exhibit.damaged.clone();
        bytes.set_len(clusters * size);
        // What led past the end of the file may lead into the device.
        let device = Exhibit::new(exhibit.bench, bytes);
        // What may be used of a damaged image is what the specification says of `planned`.
        let audit = device.audit.as_ref().filter(|_| device.is(Class::Sound));
        Some(Self {
            room: audit.and_then(|audit| room::find(audit, clusters)),
            exhibit: device,
            // Every second round.
            is_block: turn / SPARE.len() as u64 % 2 == 1,
        })
    }

    /// Whether recount repairs it, and as specified.
    pub fn by_engine(&self, engine: Engine) -> Result<Vec<(Question, Verdict)>> {
        let by = |device: &Path| Ok(engine.on_block_device(device));
        if let Some(fits) = self.on_loop_device(by)? {
            return Ok(vec![(Question::FitsWhenPossible, fits)]);
        }
        let (bytes, capacity) = (&self.exhibit.damaged, Some(self.exhibit.length()));
        let repaired = engine.on(bytes, capacity, Repair::All);
        let fits = self.fits(&repaired.said, &repaired.image);
        let specified = as_specified(bytes, &engine.ask(Repair::All, capacity), &repaired);
        Ok(vec![
            (Question::FitsWhenPossible, fits),
            (Question::AsSpecified, specified),
        ])
    }

    /// Whether a qemu-img does; nothing where there is no qemu-nbd.
    pub fn by_qemu(&self, qemu: &Checker) -> Result<Verdict> {
        let by = |device: &Path| self.check(qemu, &["-fqcow2", &device.to_string_lossy()]);
        if let Some(fits) = self.on_loop_device(by)? {
            return Ok(fits);
        }
        self.exhibit.bench.store(DEVICE, &self.exhibit.damaged)?;
        let Some(server) = Server::start(self.exhibit.bench.directory) else {
            return Ok(Verdict::NotApplicable);
        };
        let options =
            format!("driver=qcow2,file.driver=nbd,file.server.type=unix,file.server.path={SOCKET}");
        let said = self.check(qemu, &["--image-opts", &options])?;
        drop(server);
        Ok(self.fits(&said, &self.load()?))
    }

    /// Whether `repair` does on a loop device; `None` where it is not to be one, or there is none.
    fn on_loop_device(
        &self,
        repair: impl FnOnce(&Path) -> Result<Said>,
    ) -> Result<Option<Verdict>> {
        if !self.is_block {
            return Ok(None);
        }
        let path = self.exhibit.bench.store(DEVICE, &self.exhibit.damaged)?;
        let Some(device) = LoopDevice::attach(&path) else {
            return Ok(None);
        };
        let said = repair(device.path())?;
        drop(device);
        Ok(Some(self.fits(&said, &self.load()?)))
    }

    fn load(&self) -> Result<SparseBytes> {
        self.exhibit.bench.load(DEVICE, self.limits().file)
    }

    fn limits(&self) -> Limits {
        Limits::for_image(self.exhibit.length())
    }

    fn check(&self, qemu: &Checker, image: &[&str]) -> Result<Said> {
        let arguments = ["check", "-rall"].iter().chain(image);
        let directory = self.exhibit.bench.directory;
        let output = program::run(qemu.path(), arguments, directory, &self.limits())?;
        Ok(said(output.ended, output.stderr))
    }

    /// Whether it is repaired where there is room; where there is none nobody could.
    fn fits(&self, said: &Said, after: &SparseBytes) -> Verdict {
        let repaired = audit::audit(after).is_ok_and(|audit| !has_wrong_refcounts(&audit));
        match self.room {
            _ if repaired => Verdict::Holds,
            Some(room) => Verdict::fails(format!(
                "a device of {} clusters: not repaired, though there is room: {room}\n    {said}",
                room.clusters
            )),
            None => Verdict::NotApplicable,
        }
    }
}

/// A qemu-nbd with the device.
struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    /// Started and answering; `None` where it is not installed, or does not start.
    fn start(directory: &Path) -> Option<Self> {
        let socket = directory.join(SOCKET);
        let mut command = Command::new("qemu-nbd");
        command
            .args(["-fraw", "--persistent", "--cache=unsafe", "--socket"])
            .arg(&socket)
            .arg(DEVICE)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().ok()?;
        let mut server = Self { child, socket };
        let deadline = Instant::now() + READY;
        // The socket is there before anyone listens to it.
        while !server.answers() {
            let gone = server.child.try_wait().ok()?.is_some();
            if gone || Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(server)
    }

    fn answers(&self) -> bool {
        let greeting = || {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(READY))?;
            let mut magic = [0; GREETING.len()];
            stream.read_exact(&mut magic)?;
            Ok::<_, std::io::Error>(magic == GREETING)
        };
        greeting().unwrap_or(false)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What it has answered is in the file. Asked to end, it may not hear it in its first moments.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}
