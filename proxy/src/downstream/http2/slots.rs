//! The futures of one connection's streams, polled by the connection's own task: whatever becomes ready in one turn is
//! answered in one turn, with one write.
//!
//! A waker that rings only notes who wants to be polled; the task itself is woken once, and not at all while it runs. The
//! memory of a stream that has ended is used by the next one.
//!
//! Not here: what the futures do (see `answer`), when they are polled (see `serving`).

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// Who may want to be polled: the connection itself, and its streams.
const WORDS: usize = 4;

/// Most streams at once.
pub(super) const STREAMS_MAX: usize = WORDS * 64 - 1;

/// Streams whose memory is kept while a connection idles.
const KEPT: usize = 4;

/// Who wants to be polled.
#[derive(Debug)]
struct Bells {
    rung: [AtomicU64; WORDS],
    /// The task is running and looks at the bells before it rests.
    awake: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Bells {
    fn ring(&self, number: usize) {
        let bit = 1 << (number % 64);
        let before = self.rung[number / 64].fetch_or(bit, SeqCst);
        // The task clears `awake` before it looks for the last time, so one of the two sees the other.
        if before & bit == 0
            && !self.awake.load(SeqCst)
            && let Ok(task) = self.task.lock()
            && let Some(task) = &*task
        {
            task.wake_by_ref();
        }
    }

    fn any(&self) -> bool {
        self.rung.iter().any(|word| word.load(SeqCst) != 0)
    }
}

/// The waker of one future.
struct Bell {
    bells: Arc<Bells>,
    number: usize,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.bells.ring(self.number);
    }
}

/// The streams' futures. Number 0 is the connection's own.
pub(super) struct Slots<F> {
    bells: Arc<Bells>,
    connection: Waker,
    slots: Vec<Slot<F>>,
    free: Vec<usize>,
}

struct Slot<F> {
    future: Pin<Box<Option<F>>>,
    waker: Waker,
}

impl<F: Future> Slots<F> {
    pub(super) fn new() -> Self {
        let bells = Arc::new(Bells {
            rung: Default::default(),
            awake: AtomicBool::new(false),
            task: Mutex::new(None),
        });
        let connection = Waker::from(Arc::new(Bell { bells: bells.clone(), number: 0 }));
        Self { bells, connection, slots: Vec::new(), free: Vec::new() }
    }

    /// The waker of the connection itself.
    pub(super) fn connection(&self) -> &Waker {
        &self.connection
    }

    /// How many streams there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Adds a stream, to be polled in this turn. False when there is no room for it.
    pub(super) fn add(&mut self, future: F) -> bool {
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at].future.set(Some(future));
                at
            }
            None if self.slots.len() == STREAMS_MAX => return false,
            None => {
                let number = self.slots.len() + 1;
                let waker = Waker::from(Arc::new(Bell { bells: self.bells.clone(), number }));
                self.slots.push(Slot { future: Box::pin(Some(future)), waker });
                number - 1
            }
        };
        self.bells.ring(at + 1);
        true
    }

    /// A turn of the task starts.
    pub(super) fn awake(&mut self, task: &Waker) {
        self.bells.awake.store(true, SeqCst);
        if let Ok(mut known) = self.bells.task.lock()
            && !known.as_ref().is_some_and(|known| known.will_wake(task))
        {
            *known = Some(task.clone());
        }
    }

    /// The turn ends. True if somebody wants to be polled nevertheless.
    pub(super) fn rest(&mut self) -> bool {
        self.bells.awake.store(false, SeqCst);
        self.bells.any()
    }

    /// Whether somebody wants to be polled.
    pub(super) fn any_rung(&self) -> bool {
        self.bells.any()
    }

    /// Whether the connection wants to be polled; it is taken as said.
    pub(super) fn connection_rang(&self) -> bool {
        self.bells.rung[0].fetch_and(!1, SeqCst) & 1 != 0
    }

    /// Polls the streams that want to be. `done` gets what those that end give.
    pub(super) fn poll(&mut self, mut done: impl FnMut(F::Output)) {
        for word in 0..WORDS {
            let connection = u64::from(word == 0);
            let mut rung = self.bells.rung[word].fetch_and(connection, SeqCst) & !connection;
            while rung != 0 {
                let at = word * 64 + rung.trailing_zeros() as usize - 1;
                rung &= rung - 1;
                if let Some(output) = self.poll_one(at) {
                    done(output);
                }
            }
        }
    }

    fn poll_one(&mut self, at: usize) -> Option<F::Output> {
        // A bell may ring once more after its stream has ended.
        let slot = self.slots.get_mut(at)?;
        let future = slot.future.as_mut().as_pin_mut()?;
        let Poll::Ready(output) = future.poll(&mut Context::from_waker(&slot.waker)) else { return None };
        slot.future.set(None);
        self.free.push(at);
        if self.free.len() == self.slots.len() {
            self.slots.truncate(KEPT);
            self.free.clear();
            self.free.extend((0..self.slots.len()).rev());
        }
        Some(output)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// A stream that ends with its name once its bell has rung for the second time, and shows its waker.
    fn stream(name: usize, wakers: &Rc<RefCell<Vec<Waker>>>) -> impl Future<Output = usize> + use<> {
        let (wakers, polls) = (wakers.clone(), Cell::new(0));
        poll_fn(move |cx| {
            wakers.borrow_mut().push(cx.waker().clone());
            polls.set(polls.get() + 1);
            if polls.get() == 2 { Poll::Ready(name) } else { Poll::Pending }
        })
    }

    #[test]
    fn only_those_that_rang_are_polled_and_the_task_is_woken_once_a_turn() {
        let (task, wakers) = (Arc::new(Task::default()), Rc::default());
        let mut slots = Slots::new();
        slots.awake(&Waker::from(task.clone()));
        for name in 0..100 {
            assert!(slots.add(stream(name, &wakers)));
        }
        let mut ended = Vec::new();
        slots.poll(|name| ended.push(name));
        assert!(ended.is_empty() && wakers.borrow().len() == 100 && !slots.rest());
        assert_eq!(task.0.load(SeqCst), 0, "nobody wakes a task that is awake");

        let bells: Vec<Waker> = std::mem::take(&mut wakers.borrow_mut());
        bells[3].wake_by_ref();
        bells[97].wake_by_ref();
        bells[3].wake_by_ref();
        slots.connection().wake_by_ref();
        assert_eq!(task.0.load(SeqCst), 3, "once for each that rang");
        slots.awake(&Waker::from(task.clone()));
        assert!(slots.connection_rang() && !slots.connection_rang());
        slots.poll(|name| ended.push(name));
        assert_eq!((ended, slots.len()), (vec![3, 97], 98));
        bells[3].wake_by_ref();
        assert!(slots.rest(), "a late bell is looked at, and means nothing");
        slots.poll(|_| panic!("it has ended"));
    }

    #[test]
    fn the_place_of_an_ended_stream_is_used_again_and_places_are_bounded() {
        let mut slots = Slots::new();
        let at_once = || std::future::ready(1);
        for _ in 0..STREAMS_MAX {
            assert!(slots.add(at_once()));
        }
        assert!(!slots.add(at_once()));
        let mut ended = 0;
        slots.poll(|one| ended += one);
        assert_eq!((ended, slots.len(), slots.slots.len()), (STREAMS_MAX, 0, KEPT));
        assert!(slots.add(at_once()) && slots.len() == 1);
    }
}
