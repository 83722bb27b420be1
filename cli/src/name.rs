//! The names that qemu-img takes for an image beside plain paths: `file:PATH`, `json:{...}`, and options
//! with `--image-opts` (qemu-img manual, "--image-opts"; block-core.json, `BlockdevOptions`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use recount::storage::{Access, FileStorage};
use serde_json::{Map, Value};

use crate::args::ImageArguments;
use crate::failure::Failure;

/// Protocols of qemu that lead to no file of this machine.
const ELSEWHERE: [&str; 13] = [
    "blkdebug",
    "blkverify",
    "fat",
    "ftp",
    "ftps",
    "gluster",
    "http",
    "https",
    "iscsi",
    "nbd",
    "nfs",
    "rbd",
    "ssh",
];
/// Options that change nothing of what is read and written.
const HARMLESS: [&str; 11] = [
    "aio",
    "auto-read-only",
    "backing",
    "cache",
    "detect-zeroes",
    "discard",
    "force-share",
    "locking",
    "node-name",
    "pass-discard-request",
    "read-only",
];

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    /// A regular file or a block device.
    pub path: PathBuf,
    /// The format, where the name has it.
    pub format: Option<&'static str>,
}

/// What is meant by a name, or by options in its place.
pub fn resolve(name: &Path, is_options: bool) -> Result<Named, Failure> {
    let failed = |why: String| Failure::of(name, why);
    if is_options {
        let text = name
            .to_str()
            .ok_or_else(|| failed("options have to be text".to_owned()))?;
        return of_options(&options(text).map_err(failed)?).map_err(failed);
    }
    let bytes = name.as_os_str().as_bytes();
    if let Some(json) = bytes.strip_prefix(b"json:") {
        let parsed = serde_json::from_slice(json);
        let value: Map<String, Value> =
            parsed.map_err(|error| failed(format!("no JSON options: {error}")))?;
        return of_options(&value).map_err(failed);
    }
    if let Some(path) = bytes.strip_prefix(b"file:") {
        return Ok(Named::plain(PathBuf::from(OsStr::from_bytes(path))));
    }
    let protocol = bytes.split(|byte| *byte == b':').next().unwrap_or_default();
    let elsewhere = ELSEWHERE
        .iter()
        .find(|one| one.as_bytes() == protocol && protocol != bytes);
    match elsewhere {
        // A file may have such a name.
        Some(protocol) if !name.exists() => Err(failed(no_driver(protocol))),
        _ => Ok(Named::plain(name.to_owned())),
    }
}

/// Opens an image that is only read; also its path.
pub fn open(image: &ImageArguments) -> Result<(PathBuf, FileStorage), Failure> {
    let path = resolve(&image.name, image.image_opts)?.path;
    let storage = open_to_read(&path, image.force_share)?;
    Ok((path, storage))
}

/// Opens a file that is only read; with `force_share` also one that another process writes to.
pub fn open_to_read(path: &Path, force_share: bool) -> Result<FileStorage, Failure> {
    let access = if force_share {
        Access::ReadUnlocked
    } else {
        Access::Read
    };
    FileStorage::open(path, access).map_err(Failure::new)
}

impl Named {
    const fn plain(path: PathBuf) -> Self {
        Self { path, format: None }
    }
}

fn no_driver(driver: &str) -> String {
    format!(
        "recount opens regular files and block devices (drivers qcow2, file and host_device), not {}",
        driver.escape_debug()
    )
}

/// `key=value` separated by commas, of which two stand for one in a value; all are text.
fn options(text: &str) -> Result<Map<String, Value>, String> {
    const COMMA: &str = "\u{0}";
    let pairs = text.replace(",,", COMMA);
    let pair = |pair: &str| {
        let pair = pair.replace(COMMA, ",");
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("'{}' is no option: it has no value", pair.escape_debug()))?;
        Ok((key.to_owned(), Value::from(value)))
    };
    pairs.split(',').map(pair).collect()
}

/// The file that options of the drivers `qcow2`, `file` and `host_device` lead to.
fn of_options(options: &Map<String, Value>) -> Result<Named, String> {
    let options = nested(options)?;
    let driver = text(&options, "driver")?;
    let (file, format) = match driver {
        Some("file" | "host_device") => (&options, None),
        None if options.contains_key("filename") => (&options, None),
        Some("qcow2") | None => {
            let file = options.get("file").and_then(Value::as_object);
            refuse_others(&options, "file")?;
            let file = file.ok_or("the options name no file (file.filename)")?;
            (file, driver.map(|_| "qcow2"))
        }
        Some(other) => return Err(no_driver(other)),
    };
    if let Some(driver) = text(file, "driver")?
        && !matches!(driver, "file" | "host_device")
    {
        return Err(no_driver(driver));
    }
    refuse_others(file, "filename")?;
    let path = text(file, "filename")?.ok_or("the options name no file (filename)")?;
    let path = PathBuf::from(path);
    Ok(Named { path, format })
}

/// With `a.b` as `b` of the object `a`, as qemu takes it.
fn nested(options: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut nested = Map::new();
    for (key, value) in options {
        let Some((outer, inner)) = key.split_once('.') else {
            nested.insert(key.clone(), value.clone());
            continue;
        };
        let object = nested.entry(outer).or_insert_with(|| Map::new().into());
        let object = object.as_object_mut();
        let object =
            object.ok_or_else(|| format!("option {} is given twice", outer.escape_debug()))?;
        object.insert(inner.to_owned(), value.clone());
    }
    Ok(nested)
}

fn text<'a>(options: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, String> {
    let value = options.get(key);
    let text = value.map(|value| {
        value
            .as_str()
            .ok_or_else(|| format!("option {key} has to be text"))
    });
    text.transpose()
}

/// An option that is not known may mean that something else is to be read.
fn refuse_others(options: &Map<String, Value>, own: &str) -> Result<(), String> {
    let is_known = |key: &str| key == "driver" || key == own || HARMLESS.contains(&key);
    let other = options.keys().find(|key| !is_known(key));
    other.map_or(Ok(()), |key| {
        Err(format!(
            "recount does not know the option {}",
            key.escape_debug()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(name: &str, is_options: bool) -> Result<(String, Option<&'static str>), String> {
        let named = resolve(Path::new(name), is_options).map_err(|failure| failure.message)?;
        Ok((named.path.display().to_string(), named.format))
    }

    #[test]
    fn names_of_files_lead_to_them() {
        let plain = Ok(("a,b.qcow2".to_owned(), None));
        let qcow2 = Ok(("a,b.qcow2".to_owned(), Some("qcow2")));
        for (name, is_options, expected) in [
            ("a,b.qcow2", false, &plain),
            ("file:a,b.qcow2", false, &plain),
            (
                r#"json:{"driver":"qcow2","file":{"driver":"file","filename":"a,b.qcow2"}}"#,
                false,
                &qcow2,
            ),
            (
                r#"json:{"driver":"host_device","filename":"a,b.qcow2"}"#,
                false,
                &plain,
            ),
            (
                r#"json:{"file.driver":"file","file.filename":"a,b.qcow2"}"#,
                false,
                &plain,
            ),
            (
                r#"json:{"filename":"a,b.qcow2","read-only":true}"#,
                false,
                &plain,
            ),
            ("driver=qcow2,file.filename=a,,b.qcow2", true, &qcow2),
            (
                "driver=file,filename=a,,b.qcow2,cache.direct=on",
                true,
                &plain,
            ),
        ] {
            assert_eq!(&resolved(name, is_options), expected, "{name}");
        }
        let colon = Ok(("a:b".to_owned(), None));
        assert_eq!(resolved("a:b", false), colon);
    }

    #[test]
    fn other_names_are_refused_with_the_reason() {
        for (name, is_options, why) in [
            ("nbd://localhost/x", false, "not nbd"),
            (r#"json:{"driver":"raw","file":{}}"#, false, "not raw"),
            (
                r#"json:{"driver":"qcow2","file":{"driver":"nbd","host":"x"}}"#,
                false,
                "not nbd",
            ),
            (r#"json:{"driver":"qcow2"}"#, false, "file.filename"),
            (
                r#"json:{"driver":"qcow2","file":{"driver":"file"}}"#,
                false,
                "(filename)",
            ),
            (
                r#"json:{"driver":"qcow2","file":{"filename":"x"},"offset":1}"#,
                false,
                "option offset",
            ),
            (r#"json:{"driver":3}"#, false, "driver has to be text"),
            (r#"json:{"driver":"qcow2""#, false, "no JSON options"),
            ("json:[]", false, "no JSON options"),
            ("disk.qcow2", true, "has no value"),
        ] {
            let error = resolved(name, is_options).expect_err(name);
            assert!(error.contains(why), "{name}: {error}");
        }
    }
}
