//! Images of which the header is not there, or not all of it.

use super::assert_said;
use crate::image::Image;

#[test]
fn an_empty_file_and_a_header_that_ends_early_are_named() {
    let again = "get the image again";
    assert_said("a", &[], "not a qcow2 image: the file is empty", again);
    let whole = Image::clean().bytes;
    for (length, needed) in [(4, 72), (7, 72), (8, 104), (71, 104), (72, 104), (103, 104)] {
        let first = format!(
            "only the beginning of a qcow2 image: the file ends after {length} bytes, and its header \
             has at least {needed}"
        );
        assert_said("a", &whole[..length], &first, again);
    }
}
