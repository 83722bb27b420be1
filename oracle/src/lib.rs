//! The independent judge of qcow2 refcount repairs.

pub mod audit;
pub mod case;
pub mod crash;
pub mod disk;
pub mod properties;
pub mod run;
