//! The command line: `recount check` and `recount undo`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
