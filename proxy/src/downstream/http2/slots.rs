//! The futures of one connection's streams, polled by the connection's own task: whatever becomes ready in one turn is
//! answered in one turn, with one write.
//!
//! A waker that rings only notes who wants to be polled; the task itself is woken once, and not at all while it runs. A
//! future answers one request after the other, as they are put on its desk: it is some kilobytes large, and nothing of it
//! is made or moved for a request.
//!
//! Not here: what the futures do (see `answer`), when they are polled (see `serving`).

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// Who may want to be polled: the connection itself, and its streams.
const WORDS: usize = 4;

/// Most streams at once.
pub(super) const STREAMS_MAX: usize = WORDS * 64 - 1;

/// Who wants to be polled.
#[derive(Debug)]
struct Bells {
    rung: [AtomicU64; WORDS],
    /// The task is running, or was woken: it looks at the bells before it rests.
    awake: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Bells {
    fn ring(&self, number: usize) {
        let bit = 1 << (number % 64);
        let before = self.rung[number / 64].fetch_or(bit, SeqCst);
        // The task clears `awake` before it looks for the last time, so one of the two sees the other.
        if before & bit == 0
            && !self.awake.swap(true, SeqCst)
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

/// Where a future finds what it is to do.
#[derive(Debug)]
pub(super) struct Desk<T> {
    next: RefCell<Option<T>>,
    /// It does something.
    busy: Cell<bool>,
}

impl<T> Desk<T> {
    /// The next thing to do.
    pub(super) async fn next(&self) -> T {
        poll_fn(|_| match self.next.take() {
            Some(next) => Poll::Ready(next),
            None => {
                self.busy.set(false);
                Poll::Pending
            }
        })
        .await
    }
}

/// The futures of streams, each with a desk for its requests. Number 0 is the connection's own.
pub(super) struct Slots<F, T> {
    bells: Arc<Bells>,
    connection: Waker,
    slots: Vec<Slot<F, T>>,
    free: Vec<usize>,
}

struct Slot<F, T> {
    future: Pin<Box<F>>,
    desk: Rc<Desk<T>>,
    waker: Waker,
}

impl<F: Future<Output = ()>, T> Slots<F, T> {
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

    /// Adds a stream, to be polled in this turn; `future` makes what serves the desk where there is none yet. Gives it back
    /// when there is no room for it.
    pub(super) fn add(&mut self, stream: T, future: impl FnOnce(Rc<Desk<T>>) -> F) -> Result<(), T> {
        let at = match self.free.pop() {
            Some(at) => at,
            None if self.slots.len() == STREAMS_MAX => return Err(stream),
            None => {
                let number = self.slots.len() + 1;
                let waker = Waker::from(Arc::new(Bell { bells: self.bells.clone(), number }));
                let desk = Rc::new(Desk { next: RefCell::new(None), busy: Cell::new(false) });
                let future = Box::pin(future(desk.clone()));
                self.slots.push(Slot { future, desk, waker });
                number - 1
            }
        };
        let desk = &self.slots[at].desk;
        *desk.next.borrow_mut() = Some(stream);
        desk.busy.set(true);
        self.bells.ring(at + 1);
        Ok(())
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

    /// Everybody is to be polled.
    pub(super) fn ring_all(&self) {
        (0..=self.slots.len()).for_each(|number| self.bells.ring(number));
    }

    /// Whether somebody wants to be polled.
    pub(super) fn any_rung(&self) -> bool {
        self.bells.any()
    }

    /// Whether the connection wants to be polled; it is taken as said.
    pub(super) fn connection_rang(&self) -> bool {
        self.bells.rung[0].fetch_and(!1, SeqCst) & 1 != 0
    }

    /// Polls the streams that want to be.
    pub(super) fn poll(&mut self) {
        for word in 0..WORDS {
            let connection = u64::from(word == 0);
            if self.bells.rung[word].load(SeqCst) & !connection == 0 {
                continue;
            }
            let mut rung = self.bells.rung[word].fetch_and(connection, SeqCst) & !connection;
            while rung != 0 {
                let at = word * 64 + rung.trailing_zeros() as usize - 1;
                rung &= rung - 1;
                self.poll_one(at);
            }
        }
    }

    fn poll_one(&mut self, at: usize) {
        // A bell may ring once more after its stream has ended.
        let Some(slot) = self.slots.get_mut(at).filter(|slot| slot.desk.busy.get()) else { return };
        let ended = slot.future.as_mut().poll(&mut Context::from_waker(&slot.waker)).is_ready();
        debug_assert!(!ended, "it waits for the next request");
        if !slot.desk.busy.get() {
            self.free.push(at);
        }
    }

    /// Whether there is memory to give back: nobody uses it.
    pub(super) fn can_trim(&self) -> bool {
        self.len() == 0 && !self.slots.is_empty()
    }

    /// Gives it back.
    pub(super) fn trim(&mut self) {
        if self.can_trim() {
            (self.slots, self.free) = (Vec::new(), Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// Serves a desk: each thing on it takes two polls, shows its waker in each and is noted when it is done.
    async fn serve(desk: Rc<Desk<usize>>, wakers: Rc<RefCell<Vec<Waker>>>, done: Rc<RefCell<Vec<usize>>>) {
        loop {
            let name = desk.next().await;
            let polls = Cell::new(0);
            poll_fn(|cx| {
                wakers.borrow_mut().push(cx.waker().clone());
                polls.set(polls.get() + 1);
                if polls.get() == 2 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            done.borrow_mut().push(name);
        }
    }

    #[test]
    fn only_those_that_rang_are_polled_and_the_task_is_woken_once_for_all() {
        let (task, wakers, done) = (Arc::new(Task::default()), Rc::default(), Rc::default());
        let mut slots = Slots::new();
        slots.awake(&Waker::from(task.clone()));
        for name in 0..100 {
            slots.add(name, |desk| serve(desk, Rc::clone(&wakers), Rc::clone(&done))).expect("room");
        }
        slots.poll();
        assert!(done.borrow().is_empty() && wakers.borrow().len() == 100 && !slots.rest());
        assert_eq!(task.0.load(SeqCst), 0, "nobody wakes a task that is awake");

        let bells: Vec<Waker> = std::mem::take(&mut wakers.borrow_mut());
        bells[3].wake_by_ref();
        bells[97].wake_by_ref();
        bells[3].wake_by_ref();
        slots.connection().wake_by_ref();
        assert_eq!(task.0.load(SeqCst), 1, "once for all that rang");
        slots.awake(&Waker::from(task.clone()));
        assert!(slots.connection_rang() && !slots.connection_rang());
        slots.poll();
        assert_eq!((&*done.borrow(), slots.len()), (&vec![3, 97], 98));
        bells[3].wake_by_ref();
        assert!(slots.rest(), "a late bell is looked at, and means nothing");
        slots.poll();
        assert_eq!(done.borrow().len(), 2);
    }

    #[test]
    fn the_place_of_an_ended_stream_is_used_again_and_places_are_bounded() {
        async fn at_once(desk: Rc<Desk<u32>>, ended: Rc<Cell<u32>>) {
            loop {
                let one = desk.next().await;
                ended.set(ended.get() + one);
            }
        }
        let (ended, made) = (Rc::new(Cell::new(0)), Cell::new(0));
        let mut slots = Slots::new();
        let add = |slots: &mut Slots<_, u32>| {
            slots.add(1, |desk| {
                made.set(made.get() + 1);
                at_once(desk, ended.clone())
            })
        };
        for _ in 0..STREAMS_MAX {
            add(&mut slots).expect("room");
        }
        assert_eq!(add(&mut slots), Err(1));
        assert!(!slots.can_trim(), "all are busy");
        slots.poll();
        assert_eq!((ended.get() as usize, slots.len()), (STREAMS_MAX, 0));
        add(&mut slots).expect("room");
        assert_eq!((made.get(), slots.len()), (STREAMS_MAX, 1));
        slots.poll();
        assert!(slots.can_trim());
        slots.trim();
        assert!(!slots.can_trim());
        for _ in 0..2 {
            add(&mut slots).expect("room");
        }
        slots.poll();
        assert_eq!((ended.get() as usize, made.get()), (STREAMS_MAX + 3, STREAMS_MAX + 2));
    }
}
