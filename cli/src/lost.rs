//! Which parts of the virtual disk have data that is not in the file.

use recount::Storage;
use recount::guest::{Layers, LostRanges};
use recount::step::of;
use serde_json::{Value, json};

/// As many layers as a message names.
const LAYERS_MAX: usize = 20;

/// What of a layer is lost.
pub struct LostData {
    layer: String,
    lost: LostRanges,
}

/// That of all layers; nothing where it cannot be found out, for a reason that has been told.
pub fn lost_data(storage: &dyn Storage) -> Vec<LostData> {
    let Ok(layers) = Layers::read(storage) else {
        return Vec::new();
    };
    let lost = layers.lost_ranges(storage).unwrap_or_default();
    let named = lost.into_iter().map(|lost| LostData {
        layer: layers.name(lost.layer, storage),
        lost,
    });
    named.collect()
}

/// Lines of a message about all layers, of which only so many are named.
pub fn lines(all: &[LostData]) -> Vec<String> {
    let named = all.iter().take(LAYERS_MAX).flat_map(LostData::lines);
    let more = all.len().saturating_sub(LAYERS_MAX) as u64;
    let more = (more > 0).then(|| format!("    and {} more", of(more, "snapshot")));
    named.chain(more).collect()
}

impl LostData {
    fn lines(&self) -> Vec<String> {
        let bytes = of(self.lost.bytes, "byte");
        let mut lines = vec![format!(
            "    {bytes} of {} lead to what is not in the file, at these bytes of the virtual disk:",
            self.layer
        )];
        let ranges = self.lost.ranges.iter();
        lines.extend(ranges.map(|range| format!("      {} to {}", range.start, range.end - 1)));
        let named = self.lost.ranges.iter().map(|range| range.end - range.start);
        let more = self.lost.bytes.saturating_sub(named.sum());
        lines.extend((more > 0).then(|| format!("      and {} more", of(more, "byte"))));
        lines
    }

    /// For programs: ranges are the first ones, ends exclusive.
    pub fn json(&self) -> Value {
        let ranges = self.lost.ranges.iter();
        let ranges = ranges.map(|range| json!({"start": range.start, "end": range.end}));
        json!({
            "layer": self.layer,
            "bytes": self.lost.bytes,
            "ranges": ranges.collect::<Vec<_>>(),
        })
    }
}
