//! The independent judge of qcow2 refcount repairs. It depends on no program that it judges: each is a
//! [`subject::Subject`].

pub mod audit;
pub mod brute;
pub mod case;
pub mod class;
pub mod crash;
pub mod disk;
pub mod explore;
mod format;
pub mod fuzz;
pub mod guest;
pub mod judge;
pub mod placement;
pub mod properties;
pub mod replay;
pub mod requirements;
pub mod run;
pub mod spec;
pub mod subject;
pub mod subject_tests;
pub mod toy;
