//! The queue without sockets: who is handed a place, and that no place is lost.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Waker};

use fastrand::Rng;
use tokio::runtime::Builder;

use super::*;
use crate::endpoint::Endpoint;
use crate::pick::{NoInstance, Pick, Why};
use crate::request::FieldList;
use crate::table::fixture::*;

const ANY: Crowded = Crowded { version: None, why: Why::Equal };

fn at_most(most: u32, name: &'static str) -> Version {
    version(name, &[READY]).with(|transport| transport.in_flight_max = Some(most))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn only(entry: &RouteEntry) -> &Arc<Endpoint> {
    entry.endpoints().next().expect("there is one")
}

fn pick(entry: &RouteEntry, rng: &mut Rng) -> Result<Pick, NoInstance> {
    let fields = FieldList::default();
    let asked = request("shop.test", "/", &fields);
    entry.pick(&asked, &Tried::default(), rng, std::time::Instant::now())
}

fn enter(entry: &Arc<RouteEntry>, crowded: Crowded, deadline: Instant) -> Place {
    entry.queue.enter(entry, crowded, &Tried::default(), deadline, 10).expect("there is room")
}

fn told(place: &mut Place) -> Option<Told> {
    match poll_once(pin!(place.told())) {
        Poll::Ready(told) => told,
        Poll::Pending => None,
    }
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn has_place(place: &mut Place) -> Option<InFlight> {
    match told(place)? {
        Told::Place(place) => Some(place),
        Told::Look => panic!("the route has not changed"),
    }
}

#[tokio::test]
async fn a_free_place_goes_to_the_earliest_deadline_and_to_the_first_of_equals() {
    let entry = entry(&[at_most(1, "v1")]);
    let state = only(&entry).state.clone();
    let mut running = state.begin();
    let end = soon();
    let mut late = enter(&entry, ANY, end + Duration::from_secs(1));
    let mut first = enter(&entry, ANY, end);
    let mut second = enter(&entry, ANY, end);
    assert!([&mut late, &mut first, &mut second].into_iter().all(|place| has_place(place).is_none()));
    for place in [&mut first, &mut second, &mut late] {
        drop(running.take());
        running = has_place(place);
        assert!(running.is_some() && state.is_full(), "a newcomer finds no place in between");
    }
    drop(running);
    assert_eq!((state.in_flight(), entry.queue.len()), (0, 0));
    assert!(!state.crowd.is_there(), "nobody waits any more");
}

#[tokio::test]
async fn who_leaves_gives_up_the_turn_and_passes_on_what_it_was_handed() {
    let entry = entry(&[at_most(1, "v1")]);
    let state = only(&entry).state.clone();
    let running = state.begin();
    let gone = enter(&entry, ANY, soon());
    let handed = enter(&entry, ANY, soon());
    let mut last = enter(&entry, ANY, soon());
    drop(gone);
    assert_eq!(entry.queue.len(), 2);
    drop(running); // to `handed`, which never looks
    assert!(has_place(&mut last).is_none());
    drop(handed);
    assert!(has_place(&mut last).is_some());
    assert_eq!(state.in_flight(), 0);
}

#[tokio::test]
async fn a_request_waits_for_the_version_that_was_drawn_for_it() {
    let entry = entry(&[at_most(1, "v0").weight(1), at_most(1, "v1").weight(1)]);
    let states: Vec<_> = entry.endpoints().map(|endpoint| endpoint.state.clone()).collect();
    let mut running: Vec<_> = states.iter().map(|state| state.begin()).collect();
    let of = |version| Crowded { version: Some(version), why: Why::Split };
    let mut waits =
        [enter(&entry, of(0), soon()), enter(&entry, of(1), soon()), enter(&entry, of(1), soon())];
    drop(running.pop());
    assert!(has_place(&mut waits[0]).is_none());
    let handed = has_place(&mut waits[1]).expect("a place of its version");
    let pick =
        entry.pick_at(handed, Why::Split, &Tried::default(), std::time::Instant::now()).expect("it serves");
    assert_eq!((pick.endpoint.state.uid, pick.why), (states[1].uid, Why::Split));
    assert!(has_place(&mut waits[2]).is_none());
    drop(pick);
    assert!(has_place(&mut waits[2]).is_some());
}

#[tokio::test]
async fn an_instance_that_has_failed_the_request_gives_it_no_place() {
    let entry = entry(&[at_most(1, "v1")]);
    let state = only(&entry).state.clone();
    let failed = pick(&entry, &mut Rng::with_seed(1)).expect("there is one");
    let mut tried = Tried::default();
    tried.add(&failed);
    let mut avoids = entry.queue.enter(&entry, ANY, &tried, soon(), 10).expect("there is room");
    let mut other = enter(&entry, ANY, soon() + Duration::from_secs(1));
    drop(failed);
    assert!(has_place(&mut avoids).is_none() && has_place(&mut other).is_some());
    assert_eq!(state.in_flight(), 0, "and then the place is free");
}

#[tokio::test]
async fn a_place_at_an_ejected_instance_is_offered_to_nobody_who_would_not_take_it() {
    let two = version("v1", &[READY, READY]).with(|transport| transport.in_flight_max = Some(1));
    let entry = entry(&[two]);
    let states: Vec<_> = entry.endpoints().map(|endpoint| endpoint.state.clone()).collect();
    let [(out, at_out), (sound, at_sound)] = [0, 1].map(|n: usize| (&states[n], states[n].begin()));
    let picks = |tried: &Tried| {
        let (fields, now) = (FieldList::default(), std::time::Instant::now());
        entry.pick(&request("shop.test", "/", &fields), tried, &mut Rng::with_seed(1), now)
    };
    out.take_out(std::time::Instant::now());
    let mut first = enter(&entry, ANY, soon());
    drop(at_out);
    assert!(has_place(&mut first).is_none(), "it waits for the other instance");
    assert_eq!(out.in_flight(), 0, "and the place is free");
    assert!(picks(&Tried::default()).is_err(), "as every choice has it");
    // Who has been at all the others takes what there is.
    drop(at_sound);
    let handed = has_place(&mut first).expect("the other instance has a place");
    let (now, mut tried) = (std::time::Instant::now(), Tried::default());
    tried.add(&entry.pick_at(handed, Why::Equal, &tried, now).expect("it serves"));
    let running = [out.begin(), sound.begin()];
    let mut failed = entry.queue.enter(&entry, ANY, &tried, soon(), 10).expect("there is room");
    drop(running);
    let handed = has_place(&mut failed).expect("a place at the ejected one");
    assert!(
        entry.pick_at(handed, Why::Equal, &tried, now).is_some_and(|pick| pick.endpoint.state.uid == out.uid)
    );
}

#[tokio::test]
async fn an_instance_that_comes_back_offers_its_places() {
    let two = version("v1", &[READY, READY]).with(|transport| transport.in_flight_max = Some(1));
    let entry = entry(&[two]);
    let states: Vec<_> = entry.endpoints().map(|endpoint| endpoint.state.clone()).collect();
    let _running = states[1].begin();
    states[0].take_out(std::time::Instant::now());
    let mut waits = enter(&entry, ANY, soon());
    assert!(has_place(&mut waits).is_none());
    states[0].peers.end(&states[0], std::time::Instant::now());
    assert!(has_place(&mut waits).is_some_and(|place| place.at().uid == states[0].uid));
}

#[tokio::test]
async fn no_more_than_the_limit_wait_and_the_deadline_ends_the_wait() {
    let entry = entry(&[at_most(1, "v1")]);
    let _running = only(&entry).state.begin();
    let tried = Tried::default();
    let mut one = entry.queue.enter(&entry, ANY, &tried, Instant::now(), 1).expect("there is room");
    assert!(entry.queue.enter(&entry, ANY, &tried, soon(), 1).is_err());
    assert!(one.told().await.is_none());
    drop(one);
    assert!(entry.queue.enter(&entry, ANY, &tried, soon(), 1).is_ok());
}

#[tokio::test]
async fn instances_of_several_routes_serve_who_waits_first_whatever_the_route() {
    let (one, other) = (entry(&[at_most(1, "v1")]), entry(&[at_most(1, "v1")]));
    let state = only(&one).state.clone();
    let running = state.begin();
    // As if both had the same instance.
    let mut later = enter(&one, ANY, soon() + Duration::from_secs(1));
    let mut first = enter(&other, ANY, soon());
    state.crowd.add(&one.versions()[0].name, &other.queue);
    drop(running);
    assert!(has_place(&mut later).is_none());
    let handed = has_place(&mut first).expect("the earlier deadline");
    drop(handed);
    assert!(has_place(&mut later).is_some());
}

#[tokio::test]
async fn a_route_that_changes_wakes_those_who_wait() {
    let handle = crate::table::TableHandle::new(crate::metrics::Metrics::new(1));
    let mut catalog = catalog();
    put(&mut catalog, "other.test/", &[at_most(1, "v1")]);
    put(&mut catalog, "shop.test/", &[at_most(1, "v1")]);
    handle.apply(&catalog);
    let entry = handle.load().entries()[1].clone();
    let _running = only(&entry).state.begin();
    let mut waits = enter(&entry, ANY, soon());
    put(&mut catalog, "other.test/", &[at_most(2, "v1")]);
    handle.apply(&catalog);
    assert!(told(&mut waits).is_none(), "another route");
    put(&mut catalog, "shop.test/", &[at_most(1, "v1"), at_most(1, "v2")]);
    handle.apply(&catalog);
    assert!(matches!(told(&mut waits), Some(Told::Look)));
    let entry = handle.load().entries()[1].clone();
    assert!(pick(&entry, &mut Rng::with_seed(1)).is_ok(), "there is another instance now");
    let mut waits = enter(&entry, ANY, soon());
    remove(&mut catalog, "shop.test/");
    handle.apply(&catalog);
    assert!(matches!(told(&mut waits), Some(Told::Look)), "its route is gone");
}

#[tokio::test]
async fn a_higher_limit_frees_places() {
    let handle = crate::table::TableHandle::new(crate::metrics::Metrics::new(1));
    let mut catalog = catalog();
    put(&mut catalog, "shop.test/", &[version("v1", &[READY])]);
    handle.apply(&catalog);
    handle.states().set_in_flight_max(1);
    let entry = handle.load().entries()[0].clone();
    let _running = only(&entry).state.begin();
    assert_eq!(pick(&entry, &mut Rng::with_seed(1)).err(), Some(NoInstance::Full(ANY)));
    let mut waits = [enter(&entry, ANY, soon()), enter(&entry, ANY, soon())];
    handle.states().set_in_flight_max(2);
    assert!(has_place(&mut waits[0]).is_some());
    handle.states().set_in_flight_max(3);
    assert!(has_place(&mut waits[1]).is_some());
}

#[test]
fn no_place_is_lost_and_none_is_taken_twice_between_workers() {
    const WORKERS: usize = 4;
    const REQUESTS: usize = 3000;
    let entry = entry(&[at_most(3, "v1"), at_most(2, "v2")]);
    let (running, most_running) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let one = async |seed: u64, rng: &mut Rng| {
        loop {
            let pick = match pick(&entry, rng) {
                Ok(pick) => pick,
                Err(_) => {
                    let until = Instant::now() + Duration::from_secs(20);
                    let mut place = entry
                        .queue
                        .enter(&entry, ANY, &Tried::default(), until, 1000)
                        .expect("there is room");
                    let fields = FieldList::default();
                    let asked = request("shop.test", "/", &fields);
                    let now = std::time::Instant::now();
                    let again = entry.pick_crowded(ANY, &asked, &Tried::default(), rng, now);
                    match again {
                        Some(pick) => pick,
                        // Some leave before they are told.
                        None if rng.u64(0..8) == seed % 8 => {
                            tokio::task::yield_now().await;
                            continue;
                        }
                        None => match place.told().await.expect("a place comes in time") {
                            Told::Place(place) => entry
                                .pick_at(place, Why::Equal, &Tried::default(), std::time::Instant::now())
                                .expect("it serves"),
                            Told::Look => continue,
                        },
                    }
                }
            };
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            most_running.fetch_max(now, Ordering::SeqCst);
            if rng.bool() {
                tokio::task::yield_now().await;
            }
            running.fetch_sub(1, Ordering::SeqCst);
            drop(pick);
            return;
        }
    };
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let one = &one;
            scope.spawn(move || {
                let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
                let (mut left, mut more) = (Rng::with_seed(worker as u64), Rng::with_seed(99));
                let (mut third, mut fourth) = (Rng::with_seed(7), Rng::with_seed(8));
                runtime.block_on(async {
                    for seed in 0..REQUESTS as u64 / 4 {
                        tokio::join!(
                            one(seed, &mut left),
                            one(seed + 1, &mut more),
                            one(seed + 2, &mut third),
                            one(seed + 3, &mut fourth)
                        );
                    }
                });
            });
        }
    });
    assert!(most_running.into_inner() <= 5);
    assert_eq!(entry.endpoints().map(|endpoint| endpoint.state.in_flight()).sum::<u32>(), 0);
    assert!(entry.queue.len() == 0 && entry.endpoints().all(|endpoint| !endpoint.state.crowd.is_there()));
}
