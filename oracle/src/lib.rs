//! The independent judge of qcow2 refcount repairs.

pub mod case;
pub mod properties;
