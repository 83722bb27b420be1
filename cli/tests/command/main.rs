//! The command line as a user and a script meet it: the real program run on real files. Exit codes,
//! what is printed where, and that nothing is written that should not be. Where qemu-img is
//! installed, its answers on the same files are compared.

mod bad_input;
mod devices;
mod find;
mod image;
mod info;
mod locks;
mod map;
mod mend;
mod messages;
mod parity;
mod paths;
mod recognize;
mod repairs;
mod run;
mod undo;
