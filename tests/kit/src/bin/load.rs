//! A load that counts every request; see [`fairway_testkit::load`].

fn main() -> std::process::ExitCode {
    fairway_testkit::load::main()
}
