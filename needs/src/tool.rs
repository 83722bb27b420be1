//! What a test may need, and whether the machine has it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

/// Names what has to be there, with commas between.
pub const REQUIRE: &str = "RECOUNT_REQUIRE";

/// Something that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// qemu-img and qemu-io.
    Qemu,
    /// Loop devices, and the right to attach one.
    Loop,
    /// Chromium.
    Browser,
    /// qemu-storage-daemon, and files of FUSE.
    Fuse,
}

/// Serves a file, as nothing else says whether it can be mounted.
const MOUNTS: &str = r#"
file=$(mktemp) || exit 1
qemu-storage-daemon --daemonize --pidfile "$file.pid" \
    --blockdev driver=null-co,node-name=node,size=512 \
    --export type=fuse,id=export,node-name=node,mountpoint="$file" && there=0 || there=1
umount "$file" || fusermount3 -u "$file"
kill "$(cat "$file.pid")"
rm -f "$file" "$file.pid"
exit $there
"#;

/// The names under which distributions install Chromium.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

impl Tool {
    const ALL: [Self; 4] = [Self::Qemu, Self::Loop, Self::Browser, Self::Fuse];

    /// How an attribute and `RECOUNT_REQUIRE` call it.
    const fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Loop => "loop",
            Self::Browser => "browser",
            Self::Fuse => "fuse",
        }
    }

    /// Whether `RECOUNT_REQUIRE`, which has this value, names it.
    pub fn is_required(self, required: &str) -> bool {
        required.split(',').any(|name| name.trim() == self.name())
    }

    /// What an ignored test says.
    pub const fn missing(self) -> &'static str {
        match self {
            Self::Qemu => "needs qemu-img and qemu-io: apt-get install qemu-utils",
            Self::Loop => "needs a loop device, which root attaches",
            Self::Browser => "needs a browser: apt-get install chromium",
            Self::Fuse => "needs FUSE and qemu-storage-daemon: apt-get install qemu-utils",
        }
    }

    /// Whether the machine has it.
    pub fn is_there(self) -> bool {
        match self {
            Self::Qemu => ["qemu-img", "qemu-io"].into_iter().all(starts),
            // It names a free device, and attaches nothing.
            Self::Loop => succeeds("losetup", &["--find"]) && can_write("/dev/loop-control"),
            Self::Browser => BROWSERS.into_iter().any(starts),
            Self::Fuse => succeeds("sh", &["-c", MOUNTS]),
        }
    }
}

impl FromStr for Tool {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|tool| tool.name() == name);
        let names = Self::ALL.map(Self::name).join(", ");
        found.ok_or_else(|| format!("nothing can need `{name}`: it is one of {names}"))
    }
}

fn starts(program: &str) -> bool {
    succeeds(program, &["--version"])
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn can_write(path: impl AsRef<Path>) -> bool {
    std::fs::File::options().write(true).open(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused() {
        for tool in Tool::ALL {
            assert_eq!(tool.name().parse(), Ok(tool));
        }
        let refused = "qmeu".parse::<Tool>().unwrap_err();
        assert!(refused.contains("qemu, loop, browser"), "{refused}");
    }

    #[test]
    fn only_what_is_named_is_required() {
        assert!(Tool::Loop.is_required("qemu, loop"));
        assert!(!Tool::Browser.is_required("qemu,loop"));
        assert!(!Tool::Qemu.is_required(""));
    }

    #[test]
    fn a_program_that_does_not_start_is_not_there() {
        assert!(starts("cargo"));
        assert!(!starts("no-such-program"));
    }
}
