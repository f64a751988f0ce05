//! Fairway beside nginx and haproxy: the same load on each in turn, medians and ratios. Started by `run.sh`.
//!
//! - `rows` says what is measured, `measure` how: rounds in which every proxy has its turn, and what a round cost.
//! - `peer` starts the proxies with their configurations (`conf/`), `process` tells what they used.
//! - `origin` is the server behind them, `load` what wrk and h2load lack, `tools` runs those.
//! - `report` writes the tables, `machine` says what they were measured on, `profile` looks into one row.
//!
//! In Rust as a whole: the origin and the load generators must be compiled programs anyway, and so there is one language,
//! one build and one place for the figures that pass between them.

mod load;
mod machine;
mod measure;
mod origin;
mod peer;
mod process;
mod profile;
mod report;
mod rows;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What went wrong, and what would help, for the person at the terminal.
type Outcome<T> = Result<T, String>;

#[derive(Parser)]
#[command(about = "Fairway beside nginx and haproxy", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures rows and writes the tables
    Measure(Measure),
    /// Tables of what was measured before
    Report {
        /// Put them into this Markdown file, between its two marks
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
    },
    /// Where one row's time goes: system calls, instructions, hottest symbols
    Profile {
        /// The row
        row: String,
        /// The proxy: nginx, haproxy or fairway
        #[arg(default_value = "fairway")]
        peer: peer::Kind,
    },
    /// Lists the rows
    Rows,
    /// The server behind the proxies
    #[command(hide = true)]
    Origin,
    /// A load generator
    #[command(hide = true)]
    Load(load::Args),
}

/// How to measure.
#[derive(clap::Args, Clone)]
struct Measure {
    /// Rows, all without
    rows: Vec<String>,
    /// Rounds; in each every proxy has its turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of one turn
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Only these proxies
    #[arg(long, value_delimiter = ',', default_value = "nginx,haproxy,fairway")]
    only: Vec<peer::Kind>,
    /// Put the tables into this Markdown file, between its two marks
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Measure(how) => machine::ready().and_then(|()| measure::rows(&how)),
        Command::Report { write } => report::show(write.as_deref()),
        Command::Profile { row, peer } => machine::ready().and_then(|()| profile::row(&row, peer)),
        Command::Rows => {
            rows::all().iter().for_each(|row| println!("{:12} {} ({})", row.name, row.what, row.unit));
            Ok(())
        }
        Command::Origin => origin::serve().map_err(|error| format!("the origin: {error}")),
        Command::Load(args) => load::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("side-by-side: {error}");
            ExitCode::FAILURE
        }
    }
}
