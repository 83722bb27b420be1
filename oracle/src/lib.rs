//! The independent judge of qcow2 refcount repairs.

pub mod audit;
pub mod case;
pub mod disk;
pub mod properties;
