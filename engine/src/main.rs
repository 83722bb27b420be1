//! The command line: `recount check`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
