//! The program: reads the command line and hands it to what does the work.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use cli::args::Cli;

/// Requests allocate and free on every worker at once, which the allocators of static C libraries are slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Cli { api, command } = Cli::parse();
    cli::run(command, api)
}
