//! Makes problems of what is wrong with front ports (`aliyun.lb.port_N`).
//!
//! Not here: opening them, and trying again (the data plane does).

use std::sync::Arc;

use fairway_catalog::config::labels::Severity;
use fairway_catalog::{InputsHandle, Problem};
use fairway_proxy::FrontTrouble;
use tokio::sync::watch;

/// Our name in [`InputsHandle::report`].
const PART: &str = "front-ports";

/// Reports it as long as the data plane lives.
pub(crate) async fn follow(mut troubles: watch::Receiver<Arc<[FrontTrouble]>>, inputs: InputsHandle) {
    troubles.mark_changed();
    while troubles.changed().await.is_ok() {
        let problems = troubles.borrow_and_update().iter().map(problem).collect();
        inputs.report(PART, problems);
    }
}

fn problem(trouble: &FrontTrouble) -> Problem {
    let FrontTrouble { kind, front, subject, address, text, remedy } = trouble;
    Problem::new(kind, Severity::Error, subject.as_str(), text.as_str(), remedy.as_str())
        .at(front.to_string(), address.to_string())
}
