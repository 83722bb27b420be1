//! Files that are no qcow2 image: the first line says what was seen, the next ones what helps. The
//! formats' first bytes are built here; where qemu-img is installed, it writes them, and what is
//! advised is done.

mod header;

use std::fs;
use std::path::Path;
use std::process::Command;

use recount_needs::needs;

use crate::run::{Untouched, qemu_tool, recount};

const ADVICE: &str = "    ";

/// Checks a file in every way; returns what was said of it, the file's name taken away, by lines.
fn said(file: &Path) -> Vec<String> {
    let before = Untouched::of(file);
    let mut said = Vec::new();
    for options in [
        &["-r", "all"][..],
        &["--plan"],
        &["-q"],
        &["-f", "qcow2", "--output=json"],
        &[],
    ] {
        let run = recount(options, file);
        assert_eq!(run.code, Some(1), "{options:?}: {run:?}");
        assert_eq!(run.stdout, "", "{options:?}");
        let start = format!("recount: '{}': ", file.display());
        let text = run.stderr.strip_prefix(&start).expect("the file's name");
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let is_advice = |line: &String| line.starts_with(ADVICE);
        assert!(
            lines.len() > 1 && lines[1..].iter().all(is_advice),
            "{run:?}"
        );
        let controls = text.chars().filter(|c| c.is_control() && *c != '\n');
        assert_eq!(controls.count(), 0, "{run:?}");
        let writes_nothing = lines
            .last()
            .is_some_and(|line| line.contains("Nothing was written"));
        assert_eq!(
            writes_nothing,
            options.contains(&"-r"),
            "{options:?}: {run:?}"
        );
        assert!(
            said.is_empty() || said[0] == lines[0],
            "{options:?}: {run:?}"
        );
        said = lines;
    }
    before.assert_still(file, "what is no image");
    said
}

/// The same of bytes in a file of that name.
fn said_of(name: &str, bytes: &[u8]) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join(name);
    fs::write(&file, bytes).expect("a written file");
    said(&file)
}

/// Zeros but for `bytes` at `offset`, 64 KiB.
fn with(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut all = vec![0; 64 << 10];
    all[offset..][..bytes.len()].copy_from_slice(bytes);
    all
}

fn assert_said(name: &str, bytes: &[u8], first: &str, advice: &str) {
    let said = said_of(name, bytes);
    assert_eq!(said[0], first, "{name}: {said:?}");
    let advised = said[1..].iter().any(|line| line.contains(advice));
    assert!(advised, "{name}: {said:?}");
}

#[test]
fn what_is_packed_is_named_with_the_command_that_unpacks_it() {
    for (suffix, offset, magic, what, command) in [
        (
            "gz",
            0,
            &b"\x1f\x8b\x08"[..],
            "a file compressed by gzip",
            "`gunzip -c FILE > NEW`",
        ),
        (
            "xz",
            0,
            b"\xfd7zXZ\0",
            "a file compressed by xz",
            "`xz -dc FILE > NEW`",
        ),
        (
            "zst",
            0,
            b"(\xb5/\xfd",
            "a file compressed by zstd",
            "`zstd -dc FILE > NEW`",
        ),
        (
            "bz2",
            0,
            b"BZh91AY&SY",
            "a file compressed by bzip2",
            "`bzip2 -dc FILE > NEW`",
        ),
        ("zip", 0, b"PK\x03\x04", "a zip archive", "`unzip FILE`"),
        (
            "tar",
            257,
            b"ustar\x0000",
            "a tar archive",
            "`tar -xf FILE`",
        ),
    ] {
        let (bytes, first) = (with(offset, magic), format!("not a qcow2 image but {what}"));
        assert_said("disk.qcow2", &bytes, &first, command);
        assert_said(&format!("disk.{suffix}"), &bytes, &first, command);
        let inside = format!("{first}; by its name there is a qcow2 image inside");
        assert_said(&format!("disk.qcow2.{suffix}"), &bytes, &inside, command);
        assert_said(&format!("DISK.QCOW2.{suffix}"), &bytes, &inside, command);
    }
}

#[test]
fn images_in_other_formats_are_named_with_their_names_in_qemu_img() {
    for (offset, magic, what, advice) in [
        (
            0,
            &b"KDMV\x01"[..],
            "a VMDK image (VMware)",
            "check -f vmdk FILE",
        ),
        (
            0,
            b"COWD\x01",
            "a VMDK image (VMware)",
            "convert -f vmdk -O qcow2 FILE NEW",
        ),
        (
            64,
            b"\x7f\x10\xda\xbe",
            "a VDI image (VirtualBox)",
            "check -f vdi FILE",
        ),
        (
            0,
            b"conectix",
            "a VHD image (Virtual PC, Hyper-V)",
            "convert -f vpc -O qcow2",
        ),
        (
            0xfe00,
            b"conectix",
            "a VHD image (Virtual PC, Hyper-V)",
            "has no check",
        ),
        (
            0xfe01,
            b"conectix",
            "a VHD image (Virtual PC, Hyper-V)",
            "has no check",
        ),
        (
            0,
            b"vhdxfile",
            "a VHDX image (Hyper-V)",
            "check -f vhdx FILE",
        ),
        (0, b"QED\0", "a QED image (QEMU)", "check -f qed FILE"),
        (
            0,
            b"WithoutFreeSpace",
            "a Parallels image",
            "check -f parallels FILE",
        ),
        (
            0,
            b"WithouFreSpacExt",
            "a Parallels image",
            "check -f parallels FILE",
        ),
        (
            0,
            b"LUKS\xba\xbe\0\x01",
            "a LUKS container, an encrypted raw disk",
            "luksDump",
        ),
        (
            32_769,
            b"CD001",
            "an ISO 9660 image, of a CD or DVD",
            "nothing to check",
        ),
    ] {
        let first = format!("not a qcow2 image but {what}");
        assert_said("disk", &with(offset, magic), &first, advice);
    }
    let first = "not a qcow2 image but the descriptor of a VMDK image (VMware), a text that names \
                 the files with the data";
    let text = b"# Disk DescriptorFile\nversion=1\n";
    assert_said("disk.vmdk", text, first, "check -f vmdk FILE");
}

#[test]
fn the_format_before_qcow2_is_named() {
    let first =
        "not a qcow2 image but one of qcow, the format before it: version (bytes 4 to 7) is 1";
    let advice = "`qemu-img convert -f qcow -O qcow2 FILE NEW`";
    assert_said("a", &with(0, b"QFI\xfb\0\0\0\x01"), first, advice);
    assert_said("a", b"QFI\xfb\0\0\0\x01", first, advice);
}

/// A boot sector with one partition: active or not, its type, first sector and sectors.
fn boot_sector(active: u8, kind: u8, first: u32, sectors: u32) -> Vec<u8> {
    let mut bytes = with(510, &[0x55, 0xaa]);
    bytes[446] = active;
    bytes[450] = kind;
    bytes[454..458].copy_from_slice(&first.to_le_bytes());
    bytes[458..462].copy_from_slice(&sectors.to_le_bytes());
    bytes
}

#[test]
fn a_raw_disk_is_told_by_partitions_that_make_sense() {
    let raw = "not a qcow2 image but a raw disk image with a partition table";
    let (mbr, gpt) = (format!("{raw} (MBR)"), format!("{raw} (GPT)"));
    for active in [0, 0x80] {
        let bytes = boot_sector(active, 0x83, 2048, 4096);
        assert_said("a", &bytes, &mbr, "-f raw");
    }
    for offset in [512, 4096] {
        let mut bytes = boot_sector(0, 0xee, 1, u32::MAX);
        bytes[offset..][..8].copy_from_slice(b"EFI PART");
        assert_said(
            "a",
            &bytes,
            &gpt,
            "qemu-img convert -f raw -O qcow2 FILE NEW",
        );
    }
    for (active, kind, first, sectors) in
        [(1, 0x83, 1, 1), (0, 0, 0, 0), (0, 7, 0, 9), (0, 7, 9, 0)]
    {
        let said = said_of("a", &boot_sector(active, kind, first, sectors));
        assert!(said[0].contains("magic (bytes 0 to 3)"), "{said:?}");
    }
}

#[test]
fn text_is_named_and_its_first_line_shown_without_what_commands_a_terminal() {
    let long = format!("{{\"error\": \"{}\"}}", "a".repeat(60));
    let cut = format!("a text file; its first line is '{}...'", &long[..57]);
    for (text, what) in [
        (
            "\n  <!DOCTYPE html>\n<html>",
            "an HTML page; its first line is '<!DOCTYPE html>'",
        ),
        (
            "<HTML lang=en>",
            "an HTML page; its first line is '<HTML lang=en>'",
        ),
        (
            "<?xml version=\"1.0\"?>",
            "an XML file; its first line is '<?xml version=\"1.0\"?>'",
        ),
        ("not found", "a text file; its first line is 'not found'"),
        (
            "\u{feff}not\tfound\u{202e}\r\n",
            "a text file; its first line is 'not\\tfound\\u{202e}'",
        ),
        (&long, &cut),
    ] {
        let first = format!("not a qcow2 image but {what}");
        assert_said("a", text.as_bytes(), &first, "get the image again");
    }
}

#[test]
fn what_nothing_is_known_about_is_shown_by_its_first_bytes() {
    let bytes: Vec<u8> = (0xf0..=0xff).chain([1; 100]).collect();
    let first = "not a qcow2 image: its magic (bytes 0 to 3) is 0xf0f1f2f3 instead of 0x514649fb";
    let advice = "the bytes f0 f1 f2 f3 f4 f5 f6 f7 f8 f9 fa fb fc fd fe ff.";
    assert_said("a", &bytes, first, advice);
    let first = "not a qcow2 image: its magic (bytes 0 to 3) is 0xff000000 instead of 0x514649fb";
    assert_said("a", &[0xff], first, "the bytes ff.");
}

/// The command between backquotes in a line of advice, with other names for its files.
fn advised(said: &[String], program: &str, names: [(&str, &Path); 2]) -> String {
    let mut commands = said.iter().filter_map(|line| line.split('`').nth(1));
    let command = commands.find(|command| command.contains(program));
    let command = command.unwrap_or_else(|| panic!("no {program} in {said:?}"));
    names
        .into_iter()
        .fold(command.to_owned(), |command, (name, path)| {
            command.replace(name, &format!("'{}'", path.display()))
        })
}

fn shell(command: &str) {
    let output = Command::new("sh").args(["-c", command]).output();
    let output = output.expect("a shell");
    assert!(output.status.success(), "{command}: {output:?}");
}

#[needs(qemu)]
#[test]
fn what_qemu_img_writes_in_other_formats_is_named_and_its_advice_works() {
    for (format, options, what) in [
        ("vmdk", "subformat=monolithicSparse", "VMDK"),
        ("vmdk", "subformat=monolithicFlat", "descriptor of a VMDK"),
        ("vdi", "static=off", "VDI"),
        ("vpc", "subformat=dynamic", "VHD image"),
        ("vpc", "subformat=fixed", "VHD image"),
        ("vhdx", "subformat=dynamic", "VHDX"),
        ("qed", "cluster_size=65536", "QED"),
        ("parallels", "cluster_size=1M", "Parallels"),
        ("qcow", "encryption=off", "qcow, the format before"),
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (file, new) = (directory.path().join("disk"), directory.path().join("new"));
        let options = format!("{options},size=4M");
        qemu_tool(
            "qemu-img",
            &["create", "-q", "-f", format, "-o", &options],
            &file,
        );
        let said = said(&file);
        assert!(said[0].contains(what), "{format}: {said:?}");
        if said[1].contains("qemu-img check") {
            shell(&advised(&said, "check", [("FILE", &file), ("NEW", &new)]));
        }
        shell(&advised(&said, "convert", [("FILE", &file), ("NEW", &new)]));
        assert_eq!(recount(&[], &new).code, Some(0), "{format}");
    }
}
