//! What the help of each command ends with: exit codes and examples.

pub const CHECK_AFTER: &str = "\
What is kept:
  Where a table that refers to clusters is itself damaged (an L1, L2, snapshot or bitmap entry that \
  leads nowhere), no allocated cluster is released or written over, even when nothing seems to \
  refer to it: mending the entry brings its data back. The messages name the damage. Where that \
  data is not wanted, --release-unreachable gives the space back, for good.

Exit codes:
   0  no errors: none found, or all of them repaired
   1  the check did not complete; the image could not be opened; wrong options
   2  there are corruptions
   3  there are leaked clusters and no corruptions
  63  the format has no checks (-f raw)
 130  a repair was stopped by Ctrl-C, between two of its steps; 143: by SIGTERM

Examples:
  recount check disk.qcow2
    is it whole?
  recount check --plan disk.qcow2
    what would a repair write?
  recount check -r leaks disk.qcow2
    give back leaked clusters
  recount check -r all --undo disk.undo disk.qcow2
    repair everything, and be able to undo it
  recount check -r all /dev/vg/disk
    the same on a block device, which cannot grow
  recount check -r all --reuse-old /dev/vg/disk
    a device without room for the new structures
  recount check -U --output=json disk.qcow2
    while a machine runs on it";

pub const MAP_AFTER: &str = "\
On a terminal the characters have colours, unless NO_COLOR is set or TERM is dumb. The picture has every \
cluster of a file of up to 16,384 clusters, with what it is under the pointer.

Exit codes:
   0  the map was made, whatever it shows; `recount check` tells what is wrong
   1  it was not; the message says why

Examples:
  recount map disk.qcow2
  recount map --plan disk.qcow2
    now, and after a repair
  recount map -o map.svg disk.qcow2
    a picture, for a browser
  recount map --json disk.qcow2 | jq .now.wrong
    how many clusters have what wrong with them";

pub const INFO_AFTER: &str = "\
Exit codes:
   0  the header could be read, whatever is wrong with the rest
   1  it could not; the message says what the file is instead, where that can be told

Examples:
  recount info disk.qcow2
  recount info -U --output=json disk.qcow2
    while a machine runs on it";

pub const FIND_AFTER: &str = "\
What is shown:
  L2 tables, of which some data is used by nothing else; of each how many of its clusters are whole, \
  that is within the file. L1 tables, snapshot tables, refcount tables and refcount blocks. Zeros. \
  Compressed data, if an L2 table that was found leads to it; all else is data.

  Only what is allocated is looked at, or holds something where no refcount can be relied on. A \
  gigabyte is read at most beside what a check reads.

Exit codes:
   0  the image was looked through, whatever was found
   1  it was not

Examples:
  recount find disk.qcow2
  recount find -v --output=json disk.qcow2";

pub const MEND_AFTER: &str = "\
Numbers are decimal, or hexadecimal with 0x.

What speaks against an entry, and needs --force:
  what it would lead to does not read as an L2 table, or has no data; its cluster is in use already; \
  the entry leads to something now, or would have reserved bits set.

Exit codes:
   0  the entry was written, or would be
   1  it was not; the message says why

Examples:
  recount find disk.qcow2
    which tables are lost, and which entries are empty?
  recount mend disk.qcow2 --l1 0=0x40000
    what would be read with entry 0 leading there?
  recount mend disk.qcow2 --l1 0=0x40000 --yes --undo mend.undo
  recount check -r all --undo repair.undo disk.qcow2";

pub const UNDO_AFTER: &str = "\
An undo file holds parts of the image and says where that is. Use those alone that come from your \
own repairs.

Exit codes:
   0  the image is as it was before the repair
   1  it is not; the message says why, and whether anything was written

Examples:
  recount check -r all --undo disk.undo disk.qcow2
  recount undo disk.undo
  recount undo disk.undo /elsewhere/disk.qcow2
    the image was moved";
