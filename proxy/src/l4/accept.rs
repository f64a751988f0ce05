//! The front ports at one worker: a task for each listening socket, opened and closed as the fronts are.
//!
//! Not here: binding (see `fronts`), what is done with a connection (see `relay`).

use std::collections::BTreeMap;
use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use fairway_config::labels::BalancerProtocol;
use fairway_config::names::FrontPort;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};

use super::port::FrontSocket;
use super::{Front, datagrams, relay};
use crate::accept::{accept_each, refuse};
use crate::downstream::Door;
use crate::spread::Place;
use crate::turn::by_turns;
use crate::worker::{Worker, welcome};

/// Accepts at the front ports until the worker drains, then what already waits, then closes them.
pub(crate) async fn serve(worker: Rc<Worker>) {
    let _entered = worker.enter(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await);
    let mut fronts = worker.shared.fronts.subscribe();
    let mut open: BTreeMap<FrontPort, (Arc<Front>, Vec<JoinHandle<()>>)> = BTreeMap::new();
    loop {
        // A port that was bound at the last moment has sockets for this worker: connections would wait there for nobody.
        let is_last = worker.is_draining();
        let present = fronts.borrow_and_update().clone();
        open.retain(|port, (front, tasks)| {
            let stays = present.get(port).is_some_and(|now| Arc::ptr_eq(now, front));
            if !stays {
                // Its route is gone: whoever waits to be accepted there has nowhere to go.
                tasks.iter().for_each(JoinHandle::abort);
            }
            stays
        });
        for (port, front) in present.iter() {
            open.entry(*port).or_insert_with(|| {
                let accepting = |socket| match socket {
                    FrontSocket::Tcp(socket) => spawn_local(accept(worker.clone(), socket, front.clone())),
                    FrontSocket::Udp(socket) => {
                        spawn_local(by_turns(datagrams::serve(worker.clone(), socket, front.clone()), ()))
                    }
                };
                (front.clone(), front.take(worker.number).into_iter().map(accepting).collect())
            });
        }
        drop(present);
        if is_last {
            break;
        }
        let mut changed = pin!(fronts.changed());
        // That the fronts are gone without a drain does not happen: the worker has them.
        poll_fn(|cx| match worker.is_draining() {
            true => Poll::Ready(()),
            false => changed.as_mut().poll(cx).map(|_| ()),
        })
        .await;
    }
    // Those for datagrams go on as long as there are sessions: nobody waits for them.
    let connections = open.into_iter().filter(|(port, _)| port.protocol != BalancerProtocol::Udp);
    for task in connections.flat_map(|(_, (_, tasks))| tasks) {
        // Each ends by itself once the worker drains; a panic in it has been reported.
        let _ = task.await;
    }
}

async fn accept(worker: Rc<Worker>, socket: std::net::TcpListener, front: Arc<Front>) {
    let admit = |stream, peer| admit(&worker, &front, stream, peer);
    // One that no other process has adopted: what waits there would be lost.
    let leaves = || front.is_given() && worker.leaves_the_rest();
    accept_each(&worker, socket, &front.name, leaves, admit).await;
}

/// Closes a connection that is one too many, or that a stranger makes where balancers in front say whose each is; serves
/// another.
fn admit(worker: &Rc<Worker>, front: &Arc<Front>, stream: TcpStream, peer: SocketAddr) {
    let (limits, trusted) = (worker.shared.fronts.limits.load(), worker.shared.trusts(peer));
    let behind_balancer = worker.shared.fronts.proxy_protocol.load(Relaxed);
    let tls = match front.port.protocol {
        // The catalog opens none without a TLS listener.
        BalancerProtocol::Https if worker.speaks_tls().is_none() => return,
        BalancerProtocol::Https => worker.speaks_tls(),
        BalancerProtocol::Tcp | BalancerProtocol::Udp | BalancerProtocol::Http => None,
    };
    if behind_balancer && !trusted {
        return;
    }
    let pass = front.gate.enter(&limits).and_then(|mut pass| {
        if !trusted {
            pass.of_client(peer.ip(), &limits)?;
        }
        Ok(pass)
    });
    let is_http = matches!(front.port.protocol, BalancerProtocol::Http | BalancerProtocol::Https);
    match pass {
        Ok(pass) if is_http => {
            let place = Place { seat: worker.shared.spread.seat_on(worker.number), pass };
            let door = Rc::new(Door::of_front(front, **limits, behind_balancer, tls));
            welcome(worker, &door, stream, peer, place);
        }
        Ok(pass) if behind_balancer => {
            let place = Place { seat: worker.shared.spread.seat_on(worker.number), pass };
            let serving = relay::serve_behind_balancer(stream, peer, front.clone(), worker.clone(), place);
            spawn_local(by_turns(serving, ()));
        }
        Ok(pass) => {
            let place = Place { seat: worker.shared.spread.seat_on(worker.number), pass };
            spawn_local(by_turns(relay::serve(stream, peer, front.clone(), worker.clone()), place));
        }
        Err(full) => refuse(worker, &front.name, &front.gate, full, peer),
    }
}
