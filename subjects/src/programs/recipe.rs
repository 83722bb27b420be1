//! What qemu-img and qemu-io are called with to make the image of a recipe.

use recount_oracle::case::real::{Kind, Preallocation, Recipe, Step};

use super::{SECRET, image_arguments};

/// The external data file.
pub const DATA_FILE: &str = "data.raw";
/// The backing file.
pub const BACKING_FILE: &str = "backing.qcow2";

/// One of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// qemu-img.
    Img,
    /// qemu-io.
    Io,
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which program.
    pub tool: Tool,
    /// One by one.
    pub arguments: Vec<String>,
}

impl Call {
    /// Of qemu-img, with arguments that have no spaces.
    fn img(arguments: &str) -> Self {
        Self {
            tool: Tool::Img,
            arguments: arguments.split(' ').map(str::to_owned).collect(),
        }
    }

    /// Of qemu-io, with these commands.
    fn io(commands: Vec<String>, image: Vec<String>) -> Self {
        let commands = commands.into_iter();
        let commands = commands.flat_map(|command| ["-c".to_owned(), command]);
        Self {
            tool: Tool::Io,
            arguments: commands.chain(image).collect(),
        }
    }
}

/// Creates the file `image`, without any step.
pub fn create(recipe: &Recipe, image: &str) -> Call {
    let (options, size) = (options(recipe), recipe.virtual_size());
    let key = match recipe.kind {
        Kind::Luks => format!("--object {SECRET} "),
        _ => String::new(),
    };
    Call::img(&format!(
        "create -q -fqcow2 {key}-o {options} {image} {size}"
    ))
}

/// Makes the backing file, where there is one.
pub fn backing(recipe: &Recipe) -> Vec<Call> {
    if recipe.kind != Kind::Backing {
        return Vec::new();
    }
    let size = recipe.virtual_size();
    let create = format!("create -q -fqcow2 {BACKING_FILE} {size}");
    let write = "write -q -P 85 0 512".to_owned();
    let image = vec![BACKING_FILE.to_owned()];
    vec![Call::img(&create), Call::io(vec![write], image)]
}

/// Does the steps to the file `image`; neighbouring ones of qemu-io in one call.
pub fn steps(recipe: &Recipe, image: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut commands = Vec::new();
    let end = |commands: &mut Vec<String>, calls: &mut Vec<Call>| {
        if !commands.is_empty() {
            let place = image_arguments(image, recipe.kind == Kind::Luks);
            calls.push(Call::io(std::mem::take(commands), place));
        }
    };
    for step in &recipe.steps {
        if let Some(command) = image_command(step, image) {
            end(&mut commands, &mut calls);
            calls.push(Call::img(&command));
        } else {
            commands.push(io_command(step, recipe));
            if matches!(step, Step::Kill) {
                end(&mut commands, &mut calls);
            }
        }
    }
    end(&mut commands, &mut calls);
    calls
}

/// What `qemu-img create -o` is told.
pub fn options(recipe: &Recipe) -> String {
    let mut options = vec![
        format!("cluster_size={}", 1_u32 << recipe.cluster_bits),
        format!("compat={}", if recipe.version_2 { "0.10" } else { "1.1" }),
        format!("refcount_bits={}", 1 << recipe.refcount_order),
    ];
    for (chosen, option) in [
        (recipe.zstd, "compression_type=zstd"),
        (recipe.extended_l2, "extended_l2=on"),
        (recipe.lazy_refcounts, "lazy_refcounts=on"),
    ] {
        options.extend(chosen.then(|| option.to_owned()));
    }
    let kind = match recipe.kind {
        Kind::Plain => None,
        Kind::Backing => Some("backing_file=backing.qcow2,backing_fmt=qcow2"),
        Kind::DataFile => Some("data_file=data.raw"),
        Kind::Luks => Some("encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=1"),
    };
    let preallocation = match recipe.preallocation {
        Preallocation::Off => None,
        Preallocation::Metadata => Some("preallocation=metadata"),
        Preallocation::Falloc => Some("preallocation=falloc"),
        Preallocation::Full => Some("preallocation=full"),
    };
    options.extend(kind.into_iter().chain(preallocation).map(str::to_owned));
    options.join(",")
}

/// The arguments of qemu-img for a step; `None` for those that qemu-io does.
fn image_command(step: &Step, image: &str) -> Option<String> {
    Some(match step {
        Step::Snapshot(number) => format!("snapshot -c s{number} {image}"),
        Step::DeleteSnapshot(number) => format!("snapshot -d s{number} {image}"),
        Step::ApplySnapshot(number) => format!("snapshot -a s{number} {image}"),
        Step::Bitmap(number) => format!("bitmap --add -g 64k {image} b{number}"),
        Step::RemoveBitmap(number) => format!("bitmap --remove {image} b{number}"),
        _ => return None,
    })
}

/// The qemu-io command of a step, within the guest's disk.
fn io_command(step: &Step, recipe: &Recipe) -> String {
    let disk = recipe.virtual_size();
    let cluster_size = 1_u64 << recipe.cluster_bits;
    let start = |cluster: u32| u64::from(cluster % recipe.virtual_clusters) * cluster_size;
    let range = |start: u64, length: u64| format!("{start} {}", length.min(disk - start));
    match *step {
        Step::Write {
            cluster,
            skip,
            sectors,
            pattern,
        } => {
            let skipped = start(cluster) + u64::from(skip) * 512 % cluster_size;
            let from = skipped.min(disk - 512);
            let range = range(from, (u64::from(sectors) + 1) * 512);
            format!("write -q -P {pattern} {range}")
        }
        Step::Compressed { cluster, pattern } => {
            let range = range(start(cluster), cluster_size);
            format!("write -q -c -P {pattern} {range}")
        }
        Step::Zeroes {
            cluster,
            clusters,
            unmap,
        } => {
            let range = range(start(cluster), (u64::from(clusters) + 1) * cluster_size);
            format!("write -q -z {} {range}", if unmap { "-u" } else { "-q" })
        }
        Step::Discard { cluster, clusters } => {
            let range = range(start(cluster), (u64::from(clusters) + 1) * cluster_size);
            format!("discard -q {range}")
        }
        // Steps of qemu-img never come here.
        _ => "sigraise 9".to_owned(),
    }
}
