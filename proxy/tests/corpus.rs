//! The kept inputs of the fuzz targets, through the same checks, in every run of the tests. To find new ones: `fuzz/run.sh`.

#[path = "../../fuzz/checks/mod.rs"]
mod checks;

use std::fs;
use std::path::Path;

/// Every kept input of a target passes its check. A failure names the file.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(&folder)
        .expect("the corpus is part of the repository")
        .map(|entry| entry.expect("its folder can be read").path())
        .collect();
    inputs.sort();
    assert!(inputs.len() > 20, "{} holds the seeds at least", folder.display());
    for path in inputs {
        let input = fs::read(&path).expect("a kept input can be read");
        if std::panic::catch_unwind(|| check(&input)).is_err() {
            panic!("{}: what failed is told above", path.display());
        }
    }
}

#[test]
fn kept_requests_mean_the_same_to_every_reader() {
    replay("request", checks::request::check);
}

#[test]
fn kept_answers_mean_the_same_to_every_reader() {
    replay("response", checks::response::check);
}

#[test]
fn kept_chunked_bodies_are_the_same_wherever_they_are_split() {
    replay("chunked", checks::chunked::check);
}

#[test]
fn kept_proxy_headers_are_read_once_and_for_all() {
    replay("proxy_header", checks::proxy_header::check);
}

#[test]
fn kept_first_messages_over_tls_ask_for_the_same_host_however_they_are_cut() {
    replay("client_hello", checks::client_hello::check);
}

#[test]
fn kept_octets_of_http2_are_answered_the_same_however_they_are_cut() {
    replay("http2", checks::http2::check);
}
