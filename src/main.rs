//! The program: reads the command line and hands it to what does the work.

mod cli;
mod run;

use std::process::ExitCode;

use clap::Parser;
use cli::args::{Cli, Command};

/// Requests allocate and free on every worker at once, which the allocators of static C libraries are slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Cli { api, command } = Cli::parse();
    match command {
        Command::Run(_) if !api.is_empty() => {
            eprintln!(
                "fairway: the listener's `--admin ADDR` stands after `run`; --token-file and --output are for other commands"
            );
            ExitCode::from(2)
        }
        Command::Run(args) => run::run(args.into()),
        Command::Tool(tool) => cli::run(tool, api),
    }
}
