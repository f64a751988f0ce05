//! A server that tells who it is; see [`fairway_testkit::origin`].

fn main() -> std::process::ExitCode {
    fairway_testkit::origin::main()
}
