//! Images as coloured cells, a cluster a cell.

use std::fmt::Write as _;

use super::super::picture::{Picture, Stretch, Use};

/// Stretches longer than this are one cell with a number.
const LONGEST: u64 = 16;

/// What the colours mean.
pub fn legend() -> String {
    let mut html = "<p class=\"legend\">".to_owned();
    for one in Use::ALL {
        let name = one.name();
        let _ = write!(html, "<span><i class=\"c {name}\"></i>{name}</span>");
    }
    html + "<span><i class=\"c data wrong\"></i>refcount wrong</span></p>"
}

/// A picture with its title.
pub fn of(title: &str, picture: &Picture) -> String {
    let mut html = format!(
        "<figure><figcaption>{title}: {} clusters of {} bytes</figcaption><div class=\"cells\">",
        picture.clusters, picture.cluster_size
    );
    for stretch in &picture.stretches {
        add(&mut html, stretch);
    }
    if picture.left_out > 0 {
        let _ = write!(
            html,
            "<span class=\"more\">and {} stretches more</span>",
            picture.left_out
        );
    }
    html + "</div></figure>"
}

fn add(html: &mut String, stretch: &Stretch) {
    let Stretch {
        first,
        clusters,
        holds,
        wrong,
    } = *stretch;
    let name = holds.name();
    let class = if wrong {
        format!("{name} wrong")
    } else {
        name.to_owned()
    };
    let says = if wrong { ", refcount wrong" } else { "" };
    if clusters > LONGEST {
        let last = first + clusters - 1;
        let _ = write!(
            html,
            "<i class=\"c {class} many\" title=\"clusters {first} to {last}: {name}{says}\">×{clusters}</i>"
        );
        return;
    }
    for cluster in first..first + clusters {
        let _ = write!(
            html,
            "<i class=\"c {class}\" title=\"cluster {cluster}: {name}{says}\"></i>"
        );
    }
}
