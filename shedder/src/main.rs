//! The command line's thin binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    shedder::cli::main()
}
