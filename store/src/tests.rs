//! The store on a real disk: what survives, what is refused, what a damaged file does.

mod process;
mod releases;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use fairway_catalog::State;
use fairway_catalog::config::labels::{Limit, RouteLimits};
use fairway_catalog::config::names::{BackendId, Percent, RouteId, Weight};
use fairway_catalog::event::Event;
use fairway_catalog::ids::InstanceId;
use fairway_catalog::inputs::{
    Decisions, LimitsRecord, MirrorRecord, Owner, SplitRecord, StateRecord, StateSubject,
};
use jiff::{SignedDuration, Timestamp};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::log::EVENTS_KEPT;
use crate::open::META;
use crate::{AuditRecord, FILE_NAME, Store, StoreError};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn open(folder: &TempDir) -> Store {
    Store::open(folder.path()).expect("a store that can be opened")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time within range")
}

fn route(name: &str) -> RouteId {
    name.parse().expect("a route")
}

fn backend(name: &str) -> BackendId {
    name.parse().expect("a backend")
}

fn split(weights: &[(&str, u64)]) -> SplitRecord {
    let weight = |weight| Weight::new(weight).expect("a weight");
    SplitRecord {
        weights: weights.iter().map(|(id, w)| (backend(id), weight(*w))).collect(),
        author: "curl".into(),
        at: at(1_700_000_000),
        expires_at: None,
        reason: "first users".into(),
        then: None,
    }
}

fn mirror(to: &str, percent: f64) -> MirrorRecord {
    MirrorRecord {
        to: backend(to),
        percent: Percent::new(percent).expect("a percentage"),
        author: "curl".into(),
        at: at(1_700_000_000),
        reason: "a look".into(),
    }
}

fn limits(pairs: &[(&str, &str)], then: Option<Arc<LimitsRecord>>) -> Arc<LimitsRecord> {
    let mut limits = RouteLimits::default();
    for (name, value) in pairs {
        limits.set(name.parse().expect("a limit"), value).expect("a value");
    }
    Arc::new(LimitsRecord {
        limits,
        author: "curl".into(),
        at: at(1_700_000_000),
        expires_at: then.is_some().then(|| at(1_700_000_100)),
        reason: "a flood".into(),
        then,
    })
}

fn audit(subject: &str) -> AuditRecord {
    AuditRecord {
        at: at(1_700_000_000),
        who: "curl".into(),
        from: "127.0.0.1:40000".into(),
        action: "put-split".into(),
        subject: subject.into(),
        detail: "web@v1=1".into(),
        reason: "".into(),
    }
}

fn event(revision: u64, second: i64) -> Event {
    Event {
        revision,
        at: at(second),
        kind: "instance-added".into(),
        subject: format!("0123456789ab:{revision}").into(),
        from: "".into(),
        to: "ready".into(),
        reason: "no probe".into(),
    }
}

#[test]
fn decisions_and_their_audit_survive_a_restart() {
    let folder = folder();
    let id = StateSubject::Instance(InstanceId::of_container("0123456789abcdef", 80));
    let whole = StateSubject::Backend(backend("shop/web@v2"));
    let shut = StateSubject::Member(route("*.shop.com/api"), backend("shop/web@v2"));
    let state = StateRecord { state: State::Draining, author: "cli".into(), at: at(5), reason: "".into() };
    let owner = Owner { project: Some("shop".into()), last_claim: at(7) };
    let few =
        [("timeout.total", "none"), ("rate_limit", "5/m burst 2"), ("body_max", "2g"), ("hedge", "off")];
    let few = limits(&few, Some(limits(&[("retries", "0")], None)));
    {
        let store = open(&folder);
        store.put_split(&route("*.shop.com/api"), &split(&[("shop/web@v1", 95)]), &audit("a")).expect("put");
        store.put_split(&route("gone.com/"), &split(&[("web@v1", 1)]), &audit("b")).expect("put");
        store.delete_split(&route("gone.com/"), &audit("c")).expect("delete");
        store.put_mirror(&route("shop.com/"), &mirror("web@v2", 0.5), &audit("m")).expect("put");
        store.put_mirror(&route("gone.com/"), &mirror("web@v2", 100.0), &audit("m")).expect("put");
        store.delete_mirror(&route("gone.com/"), &audit("m")).expect("delete");
        store.put_limits(&route("shop.com/"), &few, &audit("l")).expect("put");
        store.put_limits(&route("gone.com/"), &few, &audit("l")).expect("put");
        store.delete_limits(&route("gone.com/"), &audit("l")).expect("delete");
        store.put_state(&[id.clone(), whole.clone(), shut.clone()], &state, &audit("d")).expect("put");
        store.delete_state(&[id], &audit("e")).expect("delete");
        let owners = [(route("shop.com/"), owner.clone()), (route("old.com/"), owner.clone())];
        store.put_owners(&owners.clone().into()).expect("put");
        store.put_owners(&owners[..1].iter().cloned().collect()).expect("put");
    }
    let store = open(&folder);
    let loaded = store.load().expect("load");
    let want = Decisions {
        splits: [(route("*.shop.com/api"), split(&[("shop/web@v1", 95)]))].into(),
        states: [(whole, state.clone()), (shut, state)].into(),
        mirrors: [(route("shop.com/"), Arc::new(mirror("web@v2", 0.5)))].into(),
        limits: [(route("shop.com/"), few)].into(),
        owners: [(route("shop.com/"), owner)].into(),
    };
    assert_eq!(loaded.decisions, want);
    assert_eq!(loaded.problems, []);
    let subjects: Vec<String> = store.audit(4).expect("audit").into_iter().map(|r| r.subject).collect();
    assert_eq!(subjects, ["e", "d", "l", "l"], "the newest first");
    assert_eq!(store.audit(1).expect("audit"), [audit("e")]);
}

#[test]
fn revisions_grow_across_restarts_whatever_was_published_since_the_last_write() {
    let folder = folder();
    let mut last = 0;
    for start in 0..4 {
        let store = open(&folder);
        let begin = store.load().expect("load").revision;
        assert!(begin >= last, "start {start}: {begin} after {last}");
        store.append_events(&[event(begin + 3, 0)]).expect("append");
        store.note_revision(begin + 400).expect("note");
        // Published, and never told.
        last = begin + 400 + Store::REVISIONS_BETWEEN_NOTES;
    }
}

#[test]
fn a_new_store_begins_at_zero_and_has_no_decisions() {
    let folder = folder();
    let loaded = open(&folder).load().expect("load");
    assert_eq!((loaded.revision, loaded.decisions), (0, Decisions::default()));
}

#[test]
fn events_come_back_in_order_whole_and_after_the_revision_asked() {
    let folder = folder();
    let events = [event(5, 1), Event { kind: "route-added".into(), ..event(5, 1) }, event(7, 2), event(9, 3)];
    open(&folder).append_events(&events).expect("append");
    let store = open(&folder);
    assert_eq!(store.events_after(0, 10).expect("events"), events);
    assert_eq!(store.events_after(5, 10).expect("events"), events[2..]);
    assert_eq!(store.events_after(5, 1).expect("events"), events[2..3]);
    assert_eq!(store.events_after(9, 10).expect("events"), []);
    assert_eq!(store.events_after(u64::MAX, 10).expect("events"), []);
    assert_eq!(store.oldest_revision().expect("oldest"), 0, "nothing was compacted");
    store.forget_events_up_to(5).expect("forget");
    assert_eq!(store.events_after(0, 10).expect("events"), events[2..]);
    assert_eq!(store.oldest_revision().expect("oldest"), 5);
}

#[test]
fn old_events_are_compacted_and_the_feed_can_tell() {
    let folder = folder();
    let store = open(&folder);
    let many: Vec<Event> = (1..=EVENTS_KEPT + 10).map(|revision| event(revision, 1)).collect();
    store.append_events(&many).expect("append");
    assert_eq!(store.oldest_revision().expect("oldest"), 10);
    assert_eq!(store.events_after(0, 1).expect("events"), many[10..11]);
    let week = SignedDuration::from_hours(7 * 24).as_secs();
    let late = event(EVENTS_KEPT + 11, week + 2);
    store.append_events(std::slice::from_ref(&late)).expect("append");
    assert_eq!(store.events_after(0, 10).expect("events"), [late], "the others are more than 7 days older");
    assert_eq!(store.oldest_revision().expect("oldest"), EVENTS_KEPT + 10);
}

#[test]
fn folder_and_file_are_for_their_owner_alone() {
    let folder = folder();
    let state = folder.path().join("deep/state");
    Store::open(&state).expect("a store in a new folder");
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&state.join(FILE_NAME)), 0o600);
}

#[test]
fn a_file_cut_short_anywhere_is_refused_left_alone_and_never_panics() {
    let whole = folder();
    {
        let store = open(&whole);
        for n in 0..20 {
            let name = format!("shop{n}.com/");
            store.put_split(&route(&name), &split(&[("web@v1", 1)]), &audit(&name)).expect("put");
        }
    }
    let bytes = fs::read(whole.path().join(FILE_NAME)).expect("the file");
    let step = bytes.len() / 97;
    for length in (0..bytes.len()).step_by(step).chain([1, 63, 64, 128, 320, 4095, 4096, bytes.len() - 1]) {
        let cut = folder();
        let path = cut.path().join(FILE_NAME);
        fs::write(&path, &bytes[..length]).expect("write");
        let error = Store::open(cut.path()).err();
        assert!(matches!(error, Some(StoreError::Damaged { .. })), "{length} of {}: {error:?}", bytes.len());
        let after = fs::read(&path).expect("the file");
        assert_eq!(after, &bytes[..length], "cut to {length}: changed by the attempt");
        let problem = error.expect("asserted above").to_problem();
        assert_eq!(problem.kind, "store-damaged");
        assert!(problem.remedy.contains(FILE_NAME), "{}", problem.remedy);
    }
}

#[test]
fn a_file_of_something_else_is_refused() {
    let folder = folder();
    let path = folder.path().join(FILE_NAME);
    for (what, content) in [("text", b"hello".repeat(2000)), ("zeros", vec![0; 70_000])] {
        fs::write(&path, &content).expect("write");
        let error = Store::open(folder.path()).err();
        assert!(matches!(error, Some(StoreError::Damaged { .. })), "{what}: {error:?}");
    }
    fs::remove_file(&path).expect("remove");
    drop(redb::Database::create(&path).expect("another program's database"));
    let error = Store::open(folder.path()).err();
    assert!(matches!(error, Some(StoreError::Damaged { .. })), "{error:?}");
}

#[test]
fn overwritten_octets_never_panic() {
    let whole = folder();
    {
        let store = open(&whole);
        let events: Vec<Event> = (1..200).map(|revision| event(revision, 1)).collect();
        store.append_events(&events).expect("append");
        store.put_split(&route("shop.com/"), &split(&[("web@v1", 1)]), &audit("a")).expect("put");
    }
    let bytes = fs::read(whole.path().join(FILE_NAME)).expect("the file");
    for start in (0..bytes.len()).step_by(bytes.len() / 151) {
        let damaged = folder();
        let mut copy = bytes.clone();
        let end = (start + 200).min(copy.len());
        copy[start..end].fill(0xA5);
        fs::write(damaged.path().join(FILE_NAME), &copy).expect("write");
        // Octets that nothing refers to may be anything; all others must be noticed or read as they were.
        if let Ok(store) = Store::open(damaged.path())
            && let Ok(loaded) = store.load()
            && loaded.problems.is_empty()
        {
            let found = loaded.decisions.splits.get(&route("shop.com/"));
            assert_eq!(found, Some(&split(&[("web@v1", 1)])), "octets from {start}");
            let _ = store.events_after(0, 1000);
            let _ = store.put_split(&route("other.com/"), &split(&[("web@v1", 1)]), &audit("b"));
        }
    }
}

#[test]
fn a_folder_that_is_a_file_is_told_as_such() {
    let folder = folder();
    let file = folder.path().join("state");
    fs::write(&file, "").expect("write");
    for path in [file.clone(), file.join("below")] {
        let error = Store::open(&path).expect_err("it is no folder");
        assert!(matches!(error, StoreError::NoFolder { .. }), "{error:?}");
    }
}

#[test]
fn a_start_that_was_cut_off_while_it_made_the_file_does_not_stop_the_next() {
    for leftover in [&b""[..], b"redb\x1A\x0A\xA9\x0D\x0A", &[7; 5000]] {
        let folder = folder();
        fs::write(folder.path().join(format!("{FILE_NAME}.new")), leftover).expect("write");
        let store = open(&folder);
        store.put_split(&route("a.com/"), &split(&[("web@v1", 1)]), &audit("a")).expect("put");
        assert!(!folder.path().join(format!("{FILE_NAME}.new")).exists());
    }
}

#[test]
fn a_file_of_a_later_version_is_not_touched() {
    let folder = folder();
    let store = open(&folder);
    store.write(|tx| Ok(tx.open_table(META)?.insert("format", 2).map(|_| ())?)).expect("write");
    drop(store);
    let error = Store::open(folder.path()).expect_err("the format is unknown");
    assert!(matches!(error, StoreError::TooNew { found: 2, known: 1, .. }), "{error:?}");
}

#[test]
fn an_entry_that_cannot_be_read_costs_no_other_and_fields_to_come_are_ignored() {
    const SPLITS: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("splits");
    let folder = folder();
    let store = open(&folder);
    store.put_split(&route("good.com/"), &split(&[("web@v1", 1)]), &audit("a")).expect("put");
    let later = br#"{"layers":[{"weights":{"web@v1":7},"author":"x","at":"2026-01-01T00:00:00Z","colour":1}],"new":[]}"#;
    let entries: [(&str, &[u8]); 5] = [
        ("later.com/", later),
        (
            "heavy.com/",
            br#"{"layers":[{"weights":{"web@v1":4294967296},"author":"x","at":"2026-01-01T00:00:00Z"}]}"#,
        ),
        ("none.com/", br#"{"layers":[]}"#),
        ("text.com/", b"\xff\xfe"),
        ("/", later),
    ];
    store
        .write(|transaction| {
            let mut splits = transaction.open_table(SPLITS)?;
            for (name, value) in entries {
                splits.insert(name, value)?;
            }
            Ok(())
        })
        .expect("write");
    let loaded = store.load().expect("load");
    let names: Vec<String> = loaded.decisions.splits.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["good.com/", "later.com/"]);
    let subjects: Vec<&str> = loaded.problems.iter().map(|problem| &*problem.subject).collect();
    assert_eq!(subjects, ["/", "heavy.com/", "none.com/", "text.com/"]);
}

#[test]
fn a_file_that_is_removed_or_replaced_is_noticed_before_anything_is_promised() {
    let folder = folder();
    let store = open(&folder);
    let put = || store.put_split(&route("a.com/"), &split(&[("web@v1", 1)]), &audit("a"));
    put().expect("put");
    let (path, aside) = (folder.path().join(FILE_NAME), folder.path().join("aside"));
    fs::rename(&path, &aside).expect("rename");
    assert!(matches!(put(), Err(StoreError::Gone { .. })));
    fs::write(&path, "something else").expect("write");
    assert!(matches!(put(), Err(StoreError::Gone { .. })));
    fs::rename(&aside, &path).expect("rename");
    put().expect("it is back");
}

#[test]
fn a_locked_file_names_the_process_that_has_it_and_opens_when_that_ended() {
    let folder = folder();
    let holder = process::start("hold", folder.path());
    assert_eq!(holder.next(), "open");
    let error = Store::open(folder.path()).expect_err("another process has it");
    let StoreError::Locked { holder: pid, .. } = error else { panic!("{error:?}") };
    // Range locks belong to the open file and tell no process; where the system tells one it must be the right one.
    assert!(pid.is_none_or(|pid| pid == holder.pid()), "{pid:?}");
    assert!(error.to_problem().remedy.contains("--state-dir"));
    holder.end();
    open(&folder).load().expect("load");
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    let folder = folder();
    let mut acknowledged = 0;
    for round in 1..=8 {
        let writer = process::start("write", folder.path());
        for _ in 0..round * 3 {
            acknowledged = writer.next().parse::<u64>().expect("the number of a write that returned");
        }
        // The last numbers that it told before it died count too.
        acknowledged = writer.kill().iter().filter_map(|line| line.parse().ok()).fold(acknowledged, u64::max);
        let loaded = open(&folder).load().expect("load");
        let kept = loaded.decisions.splits.len() as u64;
        assert!(kept >= acknowledged, "round {round}: {kept} kept of {acknowledged}");
        assert_eq!(loaded.problems, []);
    }
}

#[test]
fn a_full_disk_refuses_the_write_keeps_the_rest_and_does_not_outlast_itself() {
    let folder = folder();
    let writer = process::start("fill", folder.path());
    let (mut acknowledged, mut kind) = (0, String::new());
    while kind.is_empty() {
        let line = writer.next();
        match line.parse::<u64>() {
            Ok(number) => acknowledged = number,
            Err(_) => kind = line,
        }
    }
    assert_eq!(kind, "store-full");
    assert_eq!(writer.next(), format!("kept {acknowledged}"), "it reads on after the failed write");
    writer.end();
    let store = open(&folder);
    assert_eq!(store.load().expect("load").decisions.splits.len() as u64, acknowledged);
    store.put_split(&route("room.com/"), &split(&[("web@v1", 1)]), &audit("a")).expect("there is room again");
}

#[test]
fn a_folder_that_may_not_be_written_is_told_as_such() {
    let folder = folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).expect("chmod");
    let reader = process::start_unprivileged("open", folder.path());
    assert_eq!(reader.next(), "store-denied");
    reader.end();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    drop(open(&folder));
    fs::set_permissions(folder.path().join(FILE_NAME), fs::Permissions::from_mode(0o600)).expect("chmod");
    if process::is_root() {
        let reader = process::start_unprivileged("open", folder.path());
        assert_eq!(reader.next(), "store-denied", "a file of somebody else");
        reader.end();
    }
}

#[test]
fn a_file_that_is_appended_to_still_opens_or_is_refused() {
    let folder = folder();
    open(&folder).put_split(&route("a.com/"), &split(&[("web@v1", 1)]), &audit("a")).expect("put");
    let mut file = OpenOptions::new().append(true).open(folder.path().join(FILE_NAME)).expect("open");
    file.write_all(&[1; 10_000]).expect("write");
    drop(file);
    match Store::open(folder.path()) {
        Ok(store) => assert_eq!(store.load().expect("load").decisions.splits.len(), 1),
        Err(error) => assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}"),
    }
}

fn any_name() -> impl Strategy<Value = Arc<str>> {
    "[a-z][a-z0-9._-]{0,12}".prop_map(Arc::from)
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    (0i64..4_000_000_000, 0i32..1_000_000_000)
        .prop_map(|(second, nano)| Timestamp::new(second, nano).expect("a time within range"))
}

fn any_backend() -> impl Strategy<Value = BackendId> {
    (option::of(any_name()), any_name(), "[A-Za-z0-9._-]{1,64}").prop_map(|(project, service, version)| {
        BackendId { project, service, version: version.parse().expect("a version") }
    })
}

fn any_split() -> impl Strategy<Value = SplitRecord> {
    let weights = btree_map(any_backend(), any::<u32>().prop_map(Weight::computed), 1..5);
    let layer = (weights, "\\PC{0,20}", any_time(), option::of(any_time()), "\\PC{0,40}");
    vec(layer, 1..5).prop_map(|layers| {
        let mut below = None;
        for (weights, author, at, expires_at, reason) in layers {
            let record = SplitRecord {
                weights,
                author: author.into(),
                at,
                expires_at,
                reason: reason.into(),
                then: below.map(Box::new),
            };
            below = Some(record);
        }
        below.expect("there is at least one layer")
    })
}

fn any_route() -> impl Strategy<Value = RouteId> {
    "(\\*\\.)?[a-z]{1,8}(\\.[a-z]{1,5}){0,2}(/[A-Za-z0-9%._~-]{1,8}){0,3}".prop_map(|name| route(&name))
}

fn any_mirror() -> impl Strategy<Value = Arc<MirrorRecord>> {
    (any_backend(), 1u32..=100_000, any_time(), "\\PC{0,20}").prop_map(|(to, thousandths, at, reason)| {
        let percent = Percent::new(f64::from(thousandths) / 1000.0).expect("a percentage");
        Arc::new(MirrorRecord { to, percent, author: "a".into(), at, reason: reason.into() })
    })
}

/// Of each kind of limit a few values; one to three orders that return one after the other.
fn any_limits() -> impl Strategy<Value = Arc<LimitsRecord>> {
    let layer = (0usize..10, 0usize..10, 1u32..1_000_000, any_time(), "\\PC{0,20}");
    vec(layer, 1..4).prop_map(|layers| {
        let mut below = None;
        for (one, other, number, at, reason) in layers {
            let mut limits = RouteLimits::default();
            for limit in [Limit::ALL[one], Limit::ALL[other]] {
                let texts = [format!("{number}ms"), format!("{}", number % 10 + 1), format!("{number}/m")];
                let set = texts.iter().find(|text| limits.set(limit, text).is_ok());
                set.expect("one of them is a value of this limit");
            }
            let expires_at = below.is_some().then_some(at);
            let (author, reason) = ("a".into(), reason.into());
            below = Some(Arc::new(LimitsRecord { limits, author, at, expires_at, reason, then: below }));
        }
        below.expect("there is at least one layer")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_put_is_loaded_again(
        splits in btree_map(any_route(), any_split(), 0..6),
        owners in btree_map(any_route(), (option::of(any_name()), any_time()), 0..6),
        states in btree_map(any_backend(), (any::<bool>(), any_time(), "\\PC{0,20}"), 0..4),
        mirrors in btree_map(any_route(), any_mirror(), 0..4),
        limits in btree_map(any_route(), any_limits(), 0..4),
    ) {
        let owners: BTreeMap<_, _> = owners
            .into_iter()
            .map(|(route, (project, last_claim))| (route, Owner { project, last_claim }))
            .collect();
        let states: BTreeMap<_, _> = states
            .into_iter()
            .map(|(id, (drain, at, reason))| {
                let state = if drain { State::Draining } else { State::Disabled };
                let record = StateRecord { state, author: "a".into(), at, reason: reason.into() };
                (StateSubject::Backend(id), record)
            })
            .collect();
        let folder = folder();
        let store = open(&folder);
        for (route, record) in &splits {
            store.put_split(route, record, &audit("a")).expect("put");
        }
        for (subject, record) in &states {
            store.put_state(std::slice::from_ref(subject), record, &audit("b")).expect("put");
        }
        for (route, record) in &mirrors {
            store.put_mirror(route, record, &audit("c")).expect("put");
        }
        for (route, record) in &limits {
            store.put_limits(route, record, &audit("d")).expect("put");
        }
        store.put_owners(&owners).expect("put");
        drop(store);
        let loaded = open(&folder).load().expect("load");
        prop_assert_eq!(loaded.problems, []);
        prop_assert_eq!(loaded.decisions, Decisions { splits, states, mirrors, limits, owners });
    }
}

#[test]
fn a_store_that_is_handed_over_can_be_opened_by_another_and_taken_back_when_that_one_is_gone() {
    let folder = folder();
    let store = open(&folder);
    store.put_owners(&BTreeMap::new()).expect("it is ours");
    store.hand_over();
    let refused = store.put_owners(&BTreeMap::new()).expect_err("it is handed over");
    assert_eq!(refused.kind(), "store-handed-over");
    let other = open(&folder);
    store.take_back();
    let refused = store.put_owners(&BTreeMap::new()).expect_err("the other one has it");
    assert_eq!(refused.kind(), "store-locked");
    drop(other);
    store.put_owners(&BTreeMap::new()).expect("it is ours again");
}
