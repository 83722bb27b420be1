//! The command line, `recount check` and its companions: options in, results to standard output,
//! messages to standard error.

mod args;
mod check;
mod failure;
mod find;
mod findings;
mod info;
mod lost;
mod map;
mod mend;
mod name;
mod output;
mod places;
mod plan;
mod progress;
mod recognize;
mod stop;
mod terminal;
mod undo;
mod verdict;

use std::process::ExitCode;

use clap::Parser as _;

use args::{CheckArguments, Command};
use failure::Failure;
use terminal::{Detail, Terminal};

fn main() -> ExitCode {
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(error) => {
            // Nothing is left to do about a terminal that takes no message.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let detail = match &command {
        Command::Check(CheckArguments { quiet: true, .. }) => Detail::Quiet,
        Command::Check(CheckArguments { verbose: true, .. }) => Detail::Full,
        _ => Detail::Usual,
    };
    let mut terminal = Terminal::new(detail);
    let result = match &command {
        Command::Check(arguments) => check::run(arguments, &mut terminal),
        Command::Map(arguments) => map::run(arguments, &mut terminal),
        Command::Find(arguments) => find::run(arguments, &mut terminal),
        Command::Info(arguments) => info::run(arguments, &mut terminal),
        Command::Mend(arguments) => mend::run(arguments, &mut terminal),
        Command::Undo(arguments) => undo::run(arguments, &mut terminal),
    };
    let code = result.unwrap_or_else(|Failure { message, code }| {
        terminal.say(format_args!("recount: {message}"));
        code
    });
    terminal.finish();
    ExitCode::from(code)
}
