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

use recount_oracle::audit::{self, Audit};
use recount_oracle::case::damage::{ReadWriteAt, SparseBytes};
use recount_oracle::case::observed::Said;
use recount_oracle::class::Class;
use recount_oracle::properties::Verdict;

use block::LoopDevice;

use super::diagnosis::Patient;
use super::disk;
use super::specified::as_specified;
use super::standing::{Quality, Standing, has_wrong_refcounts};
use super::subject::program::{self, Limits};
use super::subject::{Bench, CaseError, Checker, Engine, Repair};

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
pub struct Device {
    bytes: SparseBytes,
    /// Where new structures could be placed; `None` where there is no room.
    room: Option<room::Place>,
    /// Whether it is to be a loop device, where one can be had.
    is_block: bool,
}

impl Device {
    /// The device of the case at this place of a run; `None` where nothing has to be built anew, or
    /// there is too much to search.
    pub fn of(damaged: &SparseBytes, index: u64) -> Option<Self> {
        let audit = audit::audit(damaged).ok()?;
        let size = audit.header.cluster_size();
        let turn = index / super::examine::EVERY;
        let spare = SPARE[(turn % SPARE.len() as u64) as usize];
        let clusters = ReadWriteAt::len(damaged).div_ceil(size) + spare;
        if !audit.qemu.rebuild_needed || clusters > MOST_CLUSTERS {
            return None;
        }
        let mut bytes = damaged.clone();
        bytes.set_len(clusters * size).ok()?;
        // What led past the end of the file may lead into the device.
        let patient = Patient::new(&bytes);
        // What may be used of a damaged image is what the specification says of `planned`.
        let sound = patient.class() == Some(Class::Sound);
        let audit = patient.audit.filter(|_| sound);
        let room = audit.and_then(|audit| room::find(&audit, clusters));
        // Every second round.
        let is_block = turn / SPARE.len() as u64 % 2 == 1;
        Some(Self {
            bytes,
            room,
            is_block,
        })
    }

    /// Whether recount repairs it.
    pub fn by_engine(&self, engine: Engine, bench: Bench<'_>) -> Result<Standing, CaseError> {
        let by = |device: &Path| Ok(engine.on_block_device(device));
        if let Some((said, image)) = self.on_loop_device(bench, by)? {
            return Ok(self.standing(&said, &image));
        }
        let capacity = ReadWriteAt::len(&self.bytes);
        let repaired = engine.on_device(&self.bytes, capacity);
        let ask = engine.ask(Repair::All, Some(capacity));
        let mut standing = self.standing(&repaired.said, &repaired.image);
        standing.extend(as_specified(&self.bytes, &ask, &repaired));
        Ok(standing)
    }

    /// What is on a loop device after `repair`, and what that said; `None` where it is not to be one,
    /// or there is none.
    fn on_loop_device(
        &self,
        bench: Bench<'_>,
        repair: impl FnOnce(&Path) -> Result<Said, CaseError>,
    ) -> Result<Option<(Said, SparseBytes)>, CaseError> {
        if !self.is_block {
            return Ok(None);
        }
        let path = self.store(bench)?;
        let Some(device) = LoopDevice::attach(&path) else {
            return Ok(None);
        };
        let said = repair(device.path())?;
        drop(device);
        Ok(Some((said, self.load(&path, bench)?)))
    }

    fn store(&self, bench: Bench<'_>) -> Result<PathBuf, CaseError> {
        let path = bench.directory.join(DEVICE);
        disk::store(&path, &self.bytes).map_err(|source| bench.failed(source))?;
        Ok(path)
    }

    fn load(&self, path: &Path, bench: Bench<'_>) -> Result<SparseBytes, CaseError> {
        disk::load(path, self.limits().file).map_err(|source| bench.failed(source))
    }

    fn limits(&self) -> Limits {
        Limits::for_image(ReadWriteAt::len(&self.bytes))
    }

    /// Whether a qemu-img does; nothing where there is no qemu-nbd.
    pub fn by_qemu(&self, qemu: &Checker, bench: Bench<'_>) -> Result<Standing, CaseError> {
        let by = |device: &Path| {
            let device = device.to_string_lossy();
            self.check(qemu, bench, &["-fqcow2", &device])
        };
        if let Some((said, image)) = self.on_loop_device(bench, by)? {
            return Ok(self.standing(&said, &image));
        }
        let path = self.store(bench)?;
        let Some(server) = Server::start(bench.directory) else {
            return Ok(Standing::new());
        };
        let options =
            format!("driver=qcow2,file.driver=nbd,file.server.type=unix,file.server.path={SOCKET}");
        let said = self.check(qemu, bench, &["--image-opts", &options])?;
        drop(server);
        Ok(self.standing(&said, &self.load(&path, bench)?))
    }

    fn check(&self, qemu: &Checker, bench: Bench<'_>, image: &[&str]) -> Result<Said, CaseError> {
        let arguments = ["check", "-rall"].iter().chain(image);
        let output = program::run(qemu.path(), arguments, bench.directory, &self.limits())?;
        Ok(Said {
            ended: output.ended,
            counters: None,
            stderr: output.stderr,
        })
    }

    fn standing(&self, said: &Said, after: &SparseBytes) -> Standing {
        let is_right = |audit: &Audit| !has_wrong_refcounts(audit);
        let repaired = audit::audit(after).is_ok_and(|audit| is_right(&audit));
        let verdict = match self.room {
            _ if repaired => Verdict::Holds,
            Some(room) => Verdict::fails(format!(
                "a device of {} clusters: not repaired, though there is room: {room}\n    {said}",
                room.clusters
            )),
            // Nobody could.
            None => return Standing::new(),
        };
        vec![(Quality::FitsWhenPossible, verdict)]
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
