//! `recount info` for programs. What a field means is in the document on repairing.

use serde_json::{Value, json};

use super::Shown;
use super::parts::{Bitmap, Feature, OtherFile, Snapshot};
use super::text::date;

impl Shown<'_> {
    /// All of it; the version changes where a field does.
    pub fn json(&self) -> Value {
        let (header, extensions) = (&self.info.image.header, &self.info.image.extensions);
        let bitmaps = extensions.claimed_bitmaps;
        json!({
            "version": 1,
            "filename": self.name.to_string_lossy(),
            "format": "qcow2",
            "format-version": header.version,
            "virtual-size": header.size,
            "cluster-size": header.geometry.cluster_size(),
            "refcount-bits": self.refcount_bits(),
            "compression": self.compression(),
            "encryption": self.encryption(),
            "features": self.features.iter().map(feature).collect::<Vec<_>>(),
            "backing-file": self.backing.as_ref().map(other_file),
            "backing-format": self.backing_format,
            "data-file": self.data_file.as_ref().map(other_file),
            "tables": {
                "l1": {"offset": header.l1_table_offset.0, "entries": header.l1_size},
                "refcount-table": {
                    "offset": header.reftable_offset.0,
                    "clusters": header.reftable_clusters,
                },
                "snapshots": (header.nb_snapshots > 0).then(|| json!({
                    "offset": header.snapshots_offset.0,
                    "entries": header.nb_snapshots,
                })),
                "bitmaps": bitmaps.map(|bitmaps| json!({
                    "offset": bitmaps.directory.offset.0,
                    "bytes": bitmaps.directory.length,
                    "entries": bitmaps.count,
                })),
                "luks": extensions.luks.map(|luks| json!({
                    "offset": luks.offset.0,
                    "bytes": luks.length,
                })),
            },
            "snapshots": self.snapshots.list.iter().map(snapshot).collect::<Vec<_>>(),
            "bitmaps": self.bitmaps.list.iter().map(bitmap).collect::<Vec<_>>(),
            "file-length": self.file_length,
            "check": self.check.as_ref().ok().map(|report| json!({
                "check-errors": report.check_errors,
                "corruptions": report.corruptions,
                "leaks": report.leaks,
                "total-clusters": report.total_clusters,
                "allocated-clusters": report.allocated_clusters,
                "fragmented-clusters": report.fragmented_clusters,
                "compressed-clusters": report.compressed_clusters,
                "image-end-offset": report.image_end_offset,
            })),
            "problems": self.problems(),
        })
    }

    /// What cannot be read or used, each with what it is about.
    fn problems(&self) -> Vec<Value> {
        let of_file =
            |file: &Option<OtherFile>| file.as_ref().and_then(|file| file.problem.clone());
        let all = [
            ("header", self.info.broken.as_ref().map(ToString::to_string)),
            ("backing-file", of_file(&self.backing)),
            ("data-file", of_file(&self.data_file)),
            ("snapshots", self.snapshots.problem.clone()),
            ("bitmaps", self.bitmaps.problem.clone()),
            ("check", self.check.as_ref().err().map(ToString::to_string)),
        ];
        let told = all
            .into_iter()
            .filter_map(|(part, text)| Some((part, text?)));
        told.map(|(part, text)| json!({"part": part, "text": text}))
            .collect()
    }
}

fn feature(feature: &Feature) -> Value {
    json!({"kind": feature.kind, "bit": feature.bit, "name": feature.name})
}

fn other_file(file: &OtherFile) -> Value {
    file.name.to_string_lossy().into()
}

fn snapshot(snapshot: &Snapshot) -> Value {
    json!({
        "id": snapshot.id,
        "name": snapshot.name,
        "date": date(snapshot.date),
        "disk-size": snapshot.disk_size,
        "vm-state-size": snapshot.vm_state_size,
        "l1": {"offset": snapshot.l1_table.0, "entries": snapshot.l1_entries},
    })
}

fn bitmap(bitmap: &Bitmap) -> Value {
    json!({
        "name": bitmap.name,
        "granularity": bitmap.granularity,
        "enabled": bitmap.enabled,
        "in-use": bitmap.in_use,
    })
}
