//! The log of writes is read as QEMU's `blklogwrites` writes it: what it says was done to an image,
//! done again, gives the image as it is.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use recount_needs::needs;
use recount_oracle::disk::log::read;
use recount_oracle::disk::{Event, Trace};

/// A log with these entries: first sector, sectors, flags, data.
fn log(entries: &[(u64, u64, u64, &[u8])]) -> Vec<u8> {
    let mut log = Vec::new();
    log.extend(0x006a_7366_7773_6872_u64.to_le_bytes());
    log.extend(1_u64.to_le_bytes());
    log.extend((entries.len() as u64).to_le_bytes());
    log.extend(512_u32.to_le_bytes());
    log.resize(512, 0);
    for (sector, sectors, flags, data) in entries {
        let start = log.len();
        for number in [*sector, *sectors, *flags, 0] {
            log.extend(number.to_le_bytes());
        }
        log.resize(start + 512, 0);
        log.extend_from_slice(data);
    }
    log
}

#[test]
fn writes_flushes_discards_and_marks_are_told_apart() {
    let data = [7; 1024];
    let log = log(&[
        (2, 2, 0, &data),
        (0, 0, 1, &[]),
        (9, 4, 4, &[]),
        (0, 0, 8, &[]),
        (1, 1, 3, &data[..512]),
    ]);
    let events = vec![
        Event::Write {
            offset: 1024,
            bytes: data.to_vec().into(),
            durable: false,
        },
        Event::Flush,
        Event::Discard {
            offset: 9 * 512,
            length: 2048,
        },
        Event::Flush,
        Event::Write {
            offset: 512,
            bytes: data[..512].to_vec().into(),
            durable: true,
        },
    ];
    let expected = Trace { events };
    assert_eq!(read(&log), Ok(expected));
}

#[test]
fn a_damaged_log_is_refused_with_the_reason() {
    let good = log(&[(2, 2, 0, &[7; 1024])]);
    for length in 0..good.len() {
        let why = read(&good[..length]).expect_err("cut").to_string();
        assert!(
            why.starts_with("the log ends within"),
            "cut to {length} bytes: {why}"
        );
    }
    let damaged = |at: usize, byte: u8| {
        let mut log = good.clone();
        log[at] = byte;
        read(&log).expect_err("damaged").to_string()
    };
    let other = "not a log of writes of version 1: it begins with";
    let magic = format!("{other} 0x6a736677736800, version 1");
    assert_eq!(damaged(0, 0), magic);
    let version = format!("{other} 0x6a736677736872, version 2");
    assert_eq!(damaged(8, 2), version);
    assert_eq!(damaged(25, 3), "the log has sectors of 768 bytes");
    let unknown = "entry 0 of the log has unknown flags 0x10";
    assert_eq!(damaged(512 + 16, 16), unknown);
}

/// Does to the bytes what the trace says.
fn replay(bytes: &mut Vec<u8>, trace: &Trace) {
    for event in &trace.events {
        let (offset, data) = match event {
            Event::Write { offset, bytes, .. } => (*offset, bytes.to_vec()),
            Event::Discard { offset, length } => (*offset, vec![0; *length as usize]),
            _ => continue,
        };
        let (start, end) = (offset as usize, offset as usize + data.len());
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(&data);
    }
}

fn run(command: &mut Command) -> Option<i32> {
    let output = command.output().expect("qemu is installed");
    output.status.code()
}

fn repair_with_log(image: &Path, log: &Path) {
    let options = format!(
        "driver=qcow2,file.driver=blklogwrites,file.log-sector-size=512,\
         file.log-super-update-interval=1,file.file.driver=file,file.file.filename={},\
         file.log.driver=file,file.log.filename={}",
        image.display(),
        log.display()
    );
    let mut repair = Command::new("qemu-img");
    repair.args(["check", "-r", "all", "--image-opts", &options]);
    assert_eq!(run(&mut repair), Some(0));
}

#[needs(qemu)]
#[test]
fn a_log_of_qemu_img_done_again_gives_the_repaired_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let (image, log) = (folder.path().join("i.qcow2"), folder.path().join("log"));
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-f", "qcow2", "-o", "cluster_size=4096"]);
    assert_eq!(run(create.arg(&image).arg("1M")), Some(0));
    let mut fill = Command::new("qemu-io");
    assert_eq!(run(fill.args(["-c", "write 0 64k"]).arg(&image)), Some(0));
    // A table of no clusters: everything has to be built anew.
    let mut before = std::fs::read(&image).expect("an image");
    before[48..60].fill(0);
    std::fs::write(&image, &before).expect("written");
    std::fs::File::create(&log)
        .and_then(|mut log| log.flush())
        .expect("an empty log");

    repair_with_log(&image, &log);

    let trace = read(&std::fs::read(&log).expect("a log")).expect("a log of writes");
    let after = std::fs::read(&image).expect("an image");
    assert_ne!(before, after);
    replay(&mut before, &trace);
    assert_eq!(before, after);
    assert!(trace.events.contains(&Event::Flush));
}
