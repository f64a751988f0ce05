//! Moves Docker's events off the stream at once: an engine keeps 256 events and skips slow readers (design rule 5).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bollard::errors::Error;
use bollard::models::EventMessage;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::event::Event;

/// Our own queue; an event is a few hundred octets.
const QUEUE_EVENTS: usize = 8192;

/// The queue of events of one stream. The task that fills it ends with the stream, or when this is dropped.
pub(super) struct Pump {
    events: mpsc::Receiver<Event>,
    overflowed: Arc<AtomicBool>,
    task: JoinHandle<Option<Error>>,
}

/// What comes out of the queue.
#[derive(Debug)]
pub(super) enum Pumped {
    Event(Event),
    /// The stream ended, with this error if it was not by itself.
    Ended(Option<Error>),
}

impl Pump {
    /// Starts to read `stream`.
    pub(super) fn start(stream: impl Stream<Item = Result<EventMessage, Error>> + Send + 'static) -> Self {
        Self::with_capacity(stream, QUEUE_EVENTS)
    }

    fn with_capacity(
        stream: impl Stream<Item = Result<EventMessage, Error>> + Send + 'static,
        capacity: usize,
    ) -> Self {
        let (queue, events) = mpsc::channel(capacity);
        let overflowed = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(move_events(stream, queue, overflowed.clone()));
        Self { events, overflowed, task }
    }

    /// The next event.
    pub(super) async fn next(&mut self) -> Pumped {
        if let Some(event) = self.events.recv().await {
            return Pumped::Event(event);
        }
        Pumped::Ended((&mut self.task).await.unwrap_or_default())
    }

    /// An event that waits already.
    pub(super) fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Whether events were dropped since the last call, so that only a full list can tell what is true.
    pub(super) fn take_overflow(&self) -> bool {
        self.overflowed.swap(false, Ordering::AcqRel)
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn move_events(
    stream: impl Stream<Item = Result<EventMessage, Error>>,
    queue: mpsc::Sender<Event>,
    overflowed: Arc<AtomicBool>,
) -> Option<Error> {
    let mut stream = std::pin::pin!(stream);
    while let Some(message) = stream.next().await {
        match message {
            Err(error) => return Some(error),
            Ok(message) => {
                let Some(event) = Event::read(message) else { continue };
                match queue.try_send(event) {
                    Ok(()) => {}
                    // Whoever reads the queue sees this: it is full, so there is something to read.
                    Err(mpsc::error::TrySendError::Full(_)) => overflowed.store(true, Ordering::Release),
                    Err(mpsc::error::TrySendError::Closed(_)) => return None,
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn pause(id: usize) -> Result<EventMessage, Error> {
        let message = serde_json::json!({
            "Type": "container", "Action": "pause", "Actor": { "ID": format!("c{id}") },
        });
        Ok(serde_json::from_value(message).expect("an event of the API"))
    }

    #[tokio::test]
    async fn events_come_in_order_and_then_the_end() {
        let failure = Error::RequestTimeoutError;
        let mut pump = Pump::start(stream::iter((0..3).map(pause).chain([Err(failure)])));
        for i in 0..3 {
            let Pumped::Event(event) = pump.next().await else { panic!("event {i} is missing") };
            assert!(format!("{event:?}").contains(&format!("\"c{i}\"")), "{event:?}");
        }
        assert!(matches!(pump.next().await, Pumped::Ended(Some(Error::RequestTimeoutError))));
        assert!(!pump.take_overflow());
    }

    #[tokio::test]
    async fn a_full_queue_never_holds_the_stream_up_and_says_that_events_are_missing() {
        let mut pump = Pump::with_capacity(stream::iter((0..10).map(pause)), 4);
        (&mut pump.task).await.expect("the reader of the stream does not panic");
        assert!(pump.take_overflow());
        assert!(!pump.take_overflow(), "told once");
        assert_eq!(std::iter::from_fn(|| pump.try_next()).count(), 4);
    }
}
