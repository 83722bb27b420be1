//! The command line: options in, results to standard output, messages to standard error.

mod args;
mod check;
mod failure;
mod output;
mod plan;
mod terminal;
mod too_low;
mod undo;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Arguments, Command};

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing is left to do about a terminal that takes no message.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    match arguments.command {
        Command::Check(arguments) => check::run(&arguments),
        Command::Undo(arguments) => undo::run(&arguments),
    }
}
