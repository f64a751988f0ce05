//! Requests that an instance certainly did not take, as its system tells: they may be sent again, whatever their method
//! (RFC 9110 section 9.2.2: "some means to detect that the original request was never applied").
//!
//! An instance that is told to stop closes its idle connections, and a request may cross that. Two things show it:
//!
//! - *It came late*: the instance ended its direction before its system had any octet of the request. Nothing could have
//!   been answered any more.
//! - *It was lost*: the system of an instance that is leaving says by a reset that octets were never read (RFC 1122 section
//!   4.2.2.13). Only if the news says in time that it leaves: a reset alone can mean that a server gave up what it had taken.
//!   - On any connection, a request that was written at once, a moment ago, and is so small that one read takes it: then none
//!     of it was read. Of a larger one a server may have read the head, and begun.
//!   - On a new connection, which may have waited in the queue of a listener that was closed, a request of any size, if its
//!     end was not sent, or all of it not long ago: the server never had it whole (RFC 9112 section 8). Only if the
//!     instance was told to stop: one that dies may die of what it has read.
//!
//! Not here: requests that may be repeated anyway (see `attempt`), what is kept of a large one (see `body`, `held`).

use std::time::Duration;

use fairway_catalog::Condition;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::exchange::Seen;
use crate::pick::Pick;
use crate::sides::http1::Ending;
use crate::stream::{Duplex, Stream};
use crate::table::{RouteEntry, TableHandle};
use crate::turn;

/// Longest time from the choice of the instance to its reset: whoever has had a request for longer may be at it.
const CROSSING: Duration = Duration::from_millis(100);

/// Longest time that a request may have waited in the queue of a listener, whole: on a busy machine, or before a server that
/// serves few at a time. A server that wants its body would have read it by then.
const QUEUED: Duration = Duration::from_secs(1);

/// Most octets that every server is taken to read at once: a page, the smallest buffer that is in use for it.
const ONE_READ: u64 = 4096;

/// Longest time from the orderly end of a connection to the reset that shows that octets were lost.
const RESET_FOLLOWS: Duration = Duration::from_millis(100);

/// What the news must say of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// It stops, or is gone.
    Leaves,
    /// It was told to stop.
    Stops,
}

/// Which news would show that a request to the instance that was chosen then was lost, on a connection that is new if it was
/// `opened` for it; `None`: there is no such news.
pub(super) fn news_wanted(seen: &Seen, chosen: Instant, opened: Option<Instant>) -> Option<News> {
    let now = turn::now();
    if is_one_read(seen) && now.duration_since(chosen) <= CROSSING {
        return Some(News::Leaves);
    }
    let opened = opened?;
    (!seen.uploaded.get() || now.duration_since(opened) <= QUEUED).then_some(News::Stops)
}

/// Whether a server had either the whole of it or nothing: it was written at once, and one read takes it.
fn is_one_read(seen: &Seen) -> bool {
    seen.uploaded.get() && seen.waited_for_client.get().is_none() && seen.sent.get() <= ONE_READ
}

/// Whether the request came late. Behind an orderly end alone: a reset acknowledges nothing, and one that a write has met
/// looks like an end to the read behind it.
pub(super) fn came_late<S: Stream>(up: &Duplex<S>, ended: Option<Ending>, seen: &Seen) -> bool {
    let is_orderly = || seen.uploaded.get() || up.is_connected();
    ended == Some(Ending::Orderly) && is_orderly() && up.took_none_of(seen.sent.get())
}

/// Whether the request on this connection was lost. Waits for the news, at most for as long as `patience`.
pub(super) async fn was_lost(
    tcp: &TcpStream,
    ended: Option<Ending>,
    wanted: News,
    news: (&TableHandle, &RouteEntry, &Pick),
    patience: Duration,
) -> bool {
    if ended.is_none() {
        return false;
    }
    let (table, entry, pick) = news;
    // A reset that a write has met is none for the read behind it; but then the connection is no more.
    let is_reset = async || match ended {
        Some(Ending::Reset) => true,
        _ if tcp.peer_addr().is_err() => true,
        _ => timeout(RESET_FOLLOWS, tcp.ready(Interest::ERROR)).await.is_ok(),
    };
    leaves(table, entry, pick, turn::now() + patience).await
        && (wanted == News::Leaves || pick.endpoint.state.is_stopping())
        && is_reset().await
}

/// Whether the instance is known to stop, or to be gone, before the deadline.
pub(super) async fn leaves(table: &TableHandle, entry: &RouteEntry, pick: &Pick, deadline: Instant) -> bool {
    let mut applied = table.applied();
    loop {
        // Marked as seen before the look, so that a table that comes between the two is not missed.
        applied.borrow_and_update();
        let of_now = table.load();
        let stays = of_now.by_id(&entry.route.id).is_some_and(|entry| {
            let mut endpoints = entry.endpoints();
            endpoints.any(|at| {
                at.state.uid == pick.endpoint.state.uid && at.instance.condition != Condition::Stopping
            })
        });
        if !stays {
            return true;
        }
        if !matches!(timeout_at(deadline, applied.changed()).await, Ok(Ok(()))) {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::metrics::Metrics;
    use crate::pick::Tried;
    use crate::request::FieldList;
    use crate::table::fixture::*;

    const ROUTE: &str = "shop.test/";
    const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n\r\n";

    /// Our side and the instance's side of one connection.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        (near, listener.accept().await.expect("it connected").0)
    }

    /// How it ended, once everything has been read.
    async fn ending(near: &mut TcpStream) -> Option<Ending> {
        match near.read(&mut [0]).await {
            Ok(0) => Some(Ending::Orderly),
            Ok(_) => None,
            Err(error) => (error.kind() == std::io::ErrorKind::ConnectionReset).then_some(Ending::Reset),
        }
    }

    fn sent_whole() -> Seen {
        let seen = Seen::default();
        seen.sent.set(REQUEST.len() as u64);
        seen.uploaded.set(true);
        seen
    }

    #[tokio::test]
    async fn a_request_that_came_after_the_end_of_the_connection_came_late() {
        let (mut near, far) = connection().await;
        drop(far);
        near.write_all(REQUEST).await.expect("the first octets behind an end are still taken by our system");
        let ended = ending(&mut near).await;
        assert_eq!(ended, Some(Ending::Orderly), "the reset that follows changes nothing");
        assert!(came_late(&Duplex::new(near), ended, &sent_whole()));
    }

    #[tokio::test]
    async fn a_request_that_was_taken_before_the_end_did_not_come_late() {
        for reads in [true, false] {
            let (mut near, mut far) = connection().await;
            near.write_all(REQUEST).await.expect("it takes octets");
            if reads {
                far.read_exact(&mut vec![0; REQUEST.len()]).await.expect("they came");
            } else {
                far.peek(&mut [0]).await.expect("they came");
            }
            far.shutdown().await.expect("its direction ends");
            let ended = ending(&mut near).await;
            assert_eq!(ended, Some(Ending::Orderly));
            assert!(!came_late(&Duplex::new(near), ended, &sent_whole()));
        }
    }

    #[test]
    fn what_one_read_may_not_take_was_perhaps_begun_unless_the_connection_is_new() {
        let now = turn::now();
        let (a_while_ago, long_ago) = (now - CROSSING * 2, now - QUEUED * 2);
        let seen = sent_whole();
        assert_eq!(news_wanted(&seen, now, None), Some(News::Leaves));
        assert_eq!(news_wanted(&seen, a_while_ago, None), None, "it may be at it");
        assert_eq!(news_wanted(&seen, a_while_ago, Some(a_while_ago)), Some(News::Stops), "in a queue");
        let large = sent_whole();
        large.sent.set(ONE_READ + 1);
        let in_two = sent_whole();
        in_two.waited_for_client.set(Some(now));
        let in_part = sent_whole();
        in_part.uploaded.set(false);
        for seen in [&large, &in_two, &in_part] {
            assert_eq!(news_wanted(seen, now, None), None, "its head may have been read");
            assert_eq!(news_wanted(seen, now, Some(now)), Some(News::Stops));
        }
        assert_eq!(news_wanted(&large, long_ago, Some(long_ago)), None, "it may be at it");
        assert_eq!(news_wanted(&in_part, long_ago, Some(long_ago)), Some(News::Stops), "it has no end");
    }

    /// A table with one instance, the choice of it, and the catalog to change.
    fn news() -> (Arc<TableHandle>, fairway_catalog::Catalog, Pick) {
        let (handle, mut catalog) = (TableHandle::new(Metrics::new(1)), catalog());
        put(&mut catalog, ROUTE, &[version("v1", &[READY])]);
        handle.apply(&catalog);
        let fields = FieldList::default();
        let (asked, tried, now) =
            (request("shop.test", "/", &fields), Tried::default(), std::time::Instant::now());
        let mut rng = fastrand::Rng::with_seed(1);
        let pick = entry(&handle).pick(&asked, &tried, &mut rng, now).expect("there is one");
        (handle, catalog, pick)
    }

    fn entry(handle: &TableHandle) -> Arc<RouteEntry> {
        handle.load().by_id(&ROUTE.parse().expect("a route")).expect("it is there").clone()
    }

    #[tokio::test]
    async fn a_request_that_a_leaving_instance_never_read_was_lost() {
        for (orderly, gone) in [(false, false), (false, true), (true, false), (true, true)] {
            let (handle, mut catalog, pick) = news();
            let route = entry(&handle);
            let (mut near, mut far) = connection().await;
            near.write_all(REQUEST).await.expect("it takes octets");
            far.peek(&mut [0]).await.expect("they came");
            if orderly {
                far.shutdown().await.expect("its direction ends"); // and then, at the close, the reset
            }
            drop(far);
            let ended = ending(&mut near).await;
            let want = if orderly { Ending::Orderly } else { Ending::Reset };
            assert_eq!(ended, Some(want));
            let lost =
                was_lost(&near, ended, News::Leaves, (&handle, &route, &pick), Duration::from_secs(30));
            let mut lost = std::pin::pin!(lost);
            let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(lost.as_mut().poll(&mut nobody).is_pending(), "without news nobody can say");
            if gone {
                remove(&mut catalog, ROUTE);
            } else {
                put(&mut catalog, ROUTE, &[version("v1", &[STOPPING])]);
            }
            handle.apply(&catalog);
            assert!(lost.await, "orderly: {orderly}, gone: {gone}");
        }
    }

    #[tokio::test]
    async fn what_a_leaving_instance_has_read_or_had_for_long_was_not_lost() {
        let (handle, mut catalog, pick) = news();
        let route = entry(&handle);
        put(&mut catalog, ROUTE, &[version("v1", &[STOPPING])]);
        handle.apply(&catalog);
        let (mut near, mut far) = connection().await;
        near.write_all(REQUEST).await.expect("it takes octets");
        far.read_exact(&mut vec![0; REQUEST.len()]).await.expect("they came");
        drop(far);
        let ended = ending(&mut near).await;
        let news = (&*handle, &*route, &pick);
        assert!(!was_lost(&near, ended, News::Leaves, news, Duration::ZERO).await, "all was read");
    }

    #[tokio::test]
    async fn one_that_is_gone_without_a_word_was_not_told_to_stop() {
        for (stops, want) in [(false, false), (true, true)] {
            let (handle, mut catalog, pick) = news();
            let route = entry(&handle);
            if stops {
                put(&mut catalog, ROUTE, &[version("v1", &[STOPPING])]);
                handle.apply(&catalog);
            }
            remove(&mut catalog, ROUTE);
            handle.apply(&catalog);
            let (near, _far) = connection().await;
            let news = (&*handle, &*route, &pick);
            for (wanted, want) in [(News::Leaves, true), (News::Stops, want)] {
                let lost = was_lost(&near, Some(Ending::Reset), wanted, news, Duration::ZERO).await;
                assert_eq!(lost, want, "{wanted:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_reset_that_a_write_has_met_is_one() {
        let (handle, mut catalog, pick) = news();
        let route = entry(&handle);
        put(&mut catalog, ROUTE, &[version("v1", &[STOPPING])]);
        handle.apply(&catalog);
        let (mut near, far) = connection().await;
        near.write_all(REQUEST).await.expect("it takes octets");
        far.peek(&mut [0]).await.expect("they came");
        drop(far);
        near.ready(Interest::ERROR).await.expect("the reset comes");
        near.write_all(REQUEST).await.expect_err("it is reset");
        let ended = ending(&mut near).await;
        let news = (&*handle, &*route, &pick);
        assert!(was_lost(&near, ended, News::Leaves, news, Duration::ZERO).await, "{ended:?}");
    }

    #[tokio::test]
    async fn a_reset_by_an_instance_that_stays_says_nothing() {
        let (handle, _, pick) = news();
        let route = entry(&handle);
        let (near, _far) = connection().await;
        let news = (&*handle, &*route, &pick);
        assert!(!was_lost(&near, Some(Ending::Reset), News::Leaves, news, Duration::ZERO).await);
    }
}
