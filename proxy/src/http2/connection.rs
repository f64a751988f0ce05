//! What is known of one client's connection, and what is sent on it.
//!
//! Not here: what the frames that come mean (see `receive`).

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::time::Instant;

use super::calm::Calm;
use super::frame::{self, Code, HEAD, Head, PAYLOAD_MAX, WINDOW, flag, kind, setting};
use super::head::Fields;
use super::hpack::decode::Decoder;
use super::hpack::encode::Encoder;
use super::receive::{Block, Step};
use super::stream::{Ended, Handle, Stream, There};
use crate::buffers::{BUFFER_BYTES, OUT_BYTES};
use crate::h1::Known;
use crate::pick::stable_hash::BuildStable;

/// Octets of one stream's body that may be on their way to us, or wait here.
pub(super) const STREAM_WINDOW: i64 = 128 * 1024;

/// Octets of all bodies of a connection that may be.
pub(super) const CONNECTION_WINDOW: i64 = 1024 * 1024;

/// What a PING carries by which we learn that the client knows of our goodbye.
pub(super) const GOODBYE: [u8; 8] = *b"goodbye.";

/// What a listener says about its connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Most streams at once.
    pub(crate) streams: u32,
    /// Most octets of a header, as HTTP/2 counts.
    pub(crate) header_list: u32,
    /// Extended CONNECT may be asked for (RFC 8441).
    pub(crate) takes_connect: bool,
}

/// One client's connection.
#[derive(Debug)]
pub(crate) struct Connection(RefCell<State>);

/// How far the connection is on its way to an end of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// The client was told.
    Told,
    /// It knows, and was told the last stream that is served.
    Named(u32),
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) out: Vec<u8>,
    pub(super) terms: Terms,
    pub(super) calm: Calm,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    /// The fields of the block that was read last.
    pub(super) fields: Fields,
    /// A header block whose end has not come.
    pub(super) block: Option<Block>,
    pub(super) streams: HashMap<u32, Rc<Stream>, BuildStable>,
    /// The newest stream of the client.
    pub(super) newest: u32,
    /// Octets that the client takes on all streams together.
    pub(super) window: i64,
    /// Octets that it takes on a new stream.
    pub(super) stream_window: i64,
    /// Octets that it may still send on all streams together.
    pub(super) receives: i64,
    /// Octets that were taken and not given back to that window.
    pub(super) taken: i64,
    /// Streams that wait for the window of the connection, or for what was sent to be written; the first may send.
    queue: VecDeque<Rc<Stream>>,
    /// Small pieces of bodies that nobody has taken yet.
    pub(super) crumbs: u32,
    /// Streams that we had to reset because they broke the rules.
    pub(super) broken: u32,
    /// Octets of the preface that have come.
    pub(super) preface: usize,
    pub(super) has_settings: bool,
    /// Ours wait to be acknowledged.
    pub(super) asks_ack: bool,
    pub(super) leaving: Leaving,
    pub(super) client_leaves: bool,
    /// Nothing more is read, and nothing said.
    pub(super) is_over: bool,
}

impl Connection {
    /// A new one. What we say first waits to be written.
    pub(crate) fn new(terms: Terms, now: Instant) -> Rc<Self> {
        let mut state = State {
            out: Vec::new(),
            terms,
            calm: Calm::new(now),
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            fields: Fields::default(),
            block: None,
            streams: HashMap::default(),
            newest: 0,
            window: WINDOW,
            stream_window: WINDOW,
            receives: CONNECTION_WINDOW,
            taken: 0,
            queue: VecDeque::new(),
            crumbs: 0,
            broken: 0,
            preface: 0,
            has_settings: false,
            asks_ack: true,
            leaving: Leaving::No,
            client_leaves: false,
            is_over: false,
        };
        state.greet();
        Rc::new(Self(RefCell::new(state)))
    }

    /// Works on the frames in `buffer` up to the next thing that somebody has to know of. `None`: the rest of a frame is
    /// missing.
    pub(crate) fn step(&self, buffer: &mut BytesMut, now: Instant) -> Option<Step> {
        self.0.borrow_mut().step(buffer, now)
    }

    /// The stream that was opened last, and the fields of its request.
    pub(crate) fn opened<T>(
        self: &Rc<Self>,
        stream: Rc<Stream>,
        work: impl FnOnce(Handle, &Fields) -> T,
    ) -> T {
        work(Handle::new(self.clone(), stream), &self.0.borrow().fields)
    }

    /// What waits to be written; what was written is taken out of it.
    pub(crate) fn with_out<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut state = self.0.borrow_mut();
        let done = work(&mut state.out);
        state.call_first();
        done
    }

    /// Whether so much waits to be written that nothing more should be read: whoever asks and does not listen would have us
    /// keep the answers.
    pub(crate) fn is_full(&self) -> bool {
        self.0.borrow().out.len() >= OUT_BYTES
    }

    /// Whether the client has begun something, and others wait for its end: what HTTP/2 starts with, or a header.
    pub(crate) fn is_in_header(&self, unread: &[u8]) -> bool {
        let state = self.0.borrow();
        let begins =
            || Head::read(unread).is_some_and(|head| matches!(head.kind, kind::HEADERS | kind::CONTINUATION));
        !state.is_over && (!state.has_settings || state.block.is_some() || begins())
    }

    /// Whether the client has said anything.
    pub(crate) fn has_begun(&self) -> bool {
        self.0.borrow().preface > 0
    }

    /// Tells the client that the connection ends; its streams go on.
    pub(crate) fn leave(&self) {
        let state = &mut *self.0.borrow_mut();
        if state.leaving == Leaving::No && !state.is_over {
            state.leaving = Leaving::Told;
            // What the client has sent before it knew is served, too (RFC 9113 section 6.8).
            state.push_goaway(0x7fff_ffff, Code::NoError);
            frame::push(&mut state.out, kind::PING, 0, 0, &GOODBYE);
        }
    }

    /// Ends it at once; `None`: there is nobody to be told why.
    pub(crate) fn end(&self, why: Option<Code>) {
        self.0.borrow_mut().end(why);
    }

    /// Whether all has been said.
    pub(crate) fn is_over(&self) -> bool {
        let state = &mut *self.0.borrow_mut();
        let no_more = state.client_leaves || matches!(state.leaving, Leaving::Named(_));
        if !state.is_over && no_more && state.streams.is_empty() {
            if state.leaving == Leaving::No {
                state.push_goaway(state.newest, Code::NoError);
            }
            state.is_over = true;
        }
        state.is_over
    }

    /// Whether no stream is open, nothing waits, and all windows are accounted for.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        let state = self.0.borrow();
        let whole = state.is_over || state.receives + state.taken == CONNECTION_WINDOW;
        state.streams.is_empty() && state.queue.is_empty() && state.crumbs == 0 && whole
    }

    pub(super) fn take(&self, stream: &Stream) -> There {
        let state = &mut *self.0.borrow_mut();
        let mut body = stream.body.borrow_mut();
        // No more than a buffer at once: what was taken is on its way, and the windows bound it no longer.
        let octets = body.data.len().min(BUFFER_BYTES);
        let data = body.data.split_to(octets).freeze();
        if body.data.is_empty() {
            state.crumbs -= std::mem::take(&mut body.crumbs);
        }
        body.taken += data.len() as i64;
        let is_whole = body.is_whole && body.data.is_empty();
        if data.is_empty() && !is_whole && stream.ended.get().is_some() {
            return There::Cut;
        }
        if !body.is_whole && stream.ended.get().is_none() && body.taken >= STREAM_WINDOW / 2 {
            let octets = std::mem::take(&mut body.taken);
            body.window += octets;
            state.push_window(stream.id, octets);
        }
        let trailers = if is_whole { body.trailers.take() } else { None };
        if !body.is_forgotten {
            state.give_back(data.len());
        }
        if is_whole { There::Last(data, trailers) } else { There::Some(data) }
    }

    pub(super) fn reset(&self, stream: &Rc<Stream>, code: Code) {
        let state = &mut *self.0.borrow_mut();
        if stream.ended.get().is_none() {
            state.push_reset(stream.id, code);
        }
        stream.end(Ended::ByUs);
        state.forget(stream);
    }
}

impl Handle {
    /// Sends the head of an answer, whose text is our own; true when the stream ends with it.
    pub(crate) fn send_head(&self, status: u16, lines: &[u8], ends: bool) -> io::Result<()> {
        let state = &mut *self.connection.0.borrow_mut();
        if self.stream.ended.get().is_some() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        state.push_block(self.stream.id, Some(status), lines, ends);
        if ends {
            state.said(&self.stream);
        }
        Ok(())
    }

    /// Sends fields behind a body.
    pub(crate) fn send_trailers(&self, lines: &[u8]) -> io::Result<()> {
        let state = &mut *self.connection.0.borrow_mut();
        if self.stream.ended.get().is_some() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        state.push_block(self.stream.id, None, lines, true);
        state.said(&self.stream);
        Ok(())
    }

    /// Sends data as far as the client takes it: how many octets were taken of them. Ready with 0 only if there are none.
    pub(crate) fn poll_send(&self, cx: &Context<'_>, data: &[u8], ends: bool) -> Poll<io::Result<usize>> {
        let (state, stream) = (&mut *self.connection.0.borrow_mut(), &self.stream);
        match stream.ended.get() {
            Some(Ended::ByUs) if data.is_empty() => return Poll::Ready(Ok(0)),
            Some(_) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None if stream.is_said.get() => return Poll::Ready(Ok(data.len())),
            None => {}
        }
        let mut sent = 0;
        while sent < data.len() {
            let own = usize::try_from(stream.window.get()).unwrap_or(0);
            let room = state.room();
            let is_next = state.queue.front().is_none_or(|first| Rc::ptr_eq(first, stream));
            if own == 0 {
                state.leave_queue(stream);
            } else if room == 0 || !is_next {
                state.join_queue(stream);
            }
            if own == 0 || room == 0 || !is_next {
                stream.listen(cx);
                return if sent > 0 { Poll::Ready(Ok(sent)) } else { Poll::Pending };
            }
            let octets = (data.len() - sent).min(own).min(room).min(PAYLOAD_MAX);
            let is_last = sent + octets == data.len();
            state.push_data(stream, &data[sent..sent + octets], ends && is_last);
            sent += octets;
            if !is_last {
                state.let_next(stream);
            }
        }
        if data.is_empty() && ends {
            state.push_data(stream, b"", true);
        }
        state.leave_queue(stream);
        if ends {
            state.said(stream);
        }
        Poll::Ready(Ok(sent))
    }
}

impl State {
    /// What we say first: our settings, and the window of the connection.
    fn greet(&mut self) {
        let Terms { streams, header_list, takes_connect } = self.terms;
        let mut settings = vec![
            (setting::MAX_CONCURRENT_STREAMS, streams),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW as u32),
            (setting::MAX_HEADER_LIST_SIZE, header_list),
        ];
        if takes_connect {
            settings.push((setting::ENABLE_CONNECT_PROTOCOL, 1));
        }
        let octets: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| name.to_be_bytes().into_iter().chain(value.to_be_bytes()))
            .collect();
        frame::push(&mut self.out, kind::SETTINGS, 0, 0, &octets);
        self.push_window(0, CONNECTION_WINDOW - WINDOW);
    }

    /// Octets of bodies that may be sent at once: what the client takes on the connection, and what may wait.
    fn room(&self) -> usize {
        let waiting = OUT_BYTES.saturating_sub(self.out.len());
        usize::try_from(self.window).unwrap_or(0).min(waiting)
    }

    fn join_queue(&mut self, stream: &Rc<Stream>) {
        if !stream.queued.replace(true) {
            self.queue.push_back(stream.clone());
        }
    }

    pub(super) fn leave_queue(&mut self, stream: &Stream) {
        if stream.queued.replace(false) {
            self.queue.retain(|waiting| waiting.id != stream.id);
            self.call_first();
        }
    }

    /// A stream that has had its turn goes behind the others, if there are any.
    fn let_next(&mut self, stream: &Rc<Stream>) {
        if stream.queued.get() && self.queue.len() > 1 {
            self.queue.rotate_left(1);
            self.call_first();
        }
    }

    /// The stream whose turn it is may go on.
    pub(super) fn call_first(&mut self) {
        if let Some(first) = self.queue.front()
            && self.room() > 0
        {
            first.wake();
        }
    }

    fn push_data(&mut self, stream: &Stream, data: &[u8], ends: bool) {
        let flags = if ends { flag::END_STREAM } else { 0 };
        frame::push(&mut self.out, kind::DATA, flags, stream.id, data);
        self.calm.went(data.len(), ends);
        self.window -= data.len() as i64;
        stream.window.set(stream.window.get() - data.len() as i64);
    }

    /// A header block, of an answer with this status or of trailers.
    fn push_block(&mut self, stream: u32, status: Option<u16>, lines: &[u8], ends: bool) {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; HEAD]);
        self.encoder.begin(&mut self.out);
        if let Some(status) = status {
            self.encoder.status(status, &mut self.out);
        }
        each_field(lines, |name, value| self.encoder.field(name, value, &mut self.out));
        let len = self.out.len() - start - HEAD;
        let ends_stream = if ends { flag::END_STREAM } else { 0 };
        self.calm.went(len, ends);
        if len <= PAYLOAD_MAX {
            let mut head = Vec::with_capacity(HEAD);
            let flags = flag::END_HEADERS | ends_stream;
            Head { len, kind: kind::HEADERS, flags, stream }.push(&mut head);
            self.out[start..start + HEAD].copy_from_slice(&head);
            return;
        }
        // More than one frame takes: the rest continues it (section 6.10).
        let block = self.out.split_off(start + HEAD);
        self.out.truncate(start);
        let mut parts = block.chunks(PAYLOAD_MAX).enumerate().peekable();
        while let Some((number, part)) = parts.next() {
            let kind = if number == 0 { kind::HEADERS } else { kind::CONTINUATION };
            let ends_block = if parts.peek().is_none() { flag::END_HEADERS } else { 0 };
            let flags = ends_block | if number == 0 { ends_stream } else { 0 };
            frame::push(&mut self.out, kind, flags, stream, part);
        }
    }

    pub(super) fn push_window(&mut self, stream: u32, octets: i64) {
        frame::push(&mut self.out, kind::WINDOW_UPDATE, 0, stream, &(octets as u32).to_be_bytes());
    }

    pub(super) fn push_reset(&mut self, stream: u32, code: Code) {
        frame::push(&mut self.out, kind::RST_STREAM, 0, stream, &(code as u32).to_be_bytes());
    }

    pub(super) fn push_goaway(&mut self, newest: u32, code: Code) {
        let octets = [newest.to_be_bytes(), (code as u32).to_be_bytes()].concat();
        frame::push(&mut self.out, kind::GOAWAY, 0, 0, &octets);
    }

    /// Octets of a body are no longer here: the client may send as many, on any stream.
    pub(super) fn give_back(&mut self, octets: usize) {
        self.taken += octets as i64;
        if self.taken >= CONNECTION_WINDOW / 2 && !self.is_over {
            let octets = std::mem::take(&mut self.taken);
            self.receives += octets;
            self.push_window(0, octets);
        }
    }

    /// Our direction of a stream has ended.
    fn said(&mut self, stream: &Rc<Stream>) {
        stream.is_said.set(true);
        if stream.body.borrow().is_whole {
            self.close(stream);
        }
    }

    /// Both directions have ended.
    pub(super) fn close(&mut self, stream: &Rc<Stream>) {
        stream.end(Ended::ByUs);
        self.forget(stream);
    }

    /// A stream has ended: what waits of its body is of no use.
    pub(super) fn forget(&mut self, stream: &Stream) {
        if self.streams.remove(&stream.id).is_some() {
            self.leave_queue(stream);
            let mut body = stream.body.borrow_mut();
            self.crumbs -= std::mem::take(&mut body.crumbs);
            body.is_forgotten = true;
            let unread = body.data.len();
            if !body.is_whole {
                body.data = BytesMut::new();
            }
            drop(body);
            self.give_back(unread);
        }
    }

    pub(super) fn end(&mut self, why: Option<Code>) {
        if let (Some(code), false) = (why, self.is_over) {
            self.push_goaway(self.newest, code);
        }
        self.is_over = true;
        self.block = None;
        self.queue.clear();
        for (_, stream) in self.streams.drain() {
            stream.queued.set(false);
            stream.end(Ended::Lost);
        }
    }
}

/// Shows the fields of lines that our own code wrote or checked, names in lower case. What speaks of the connection has no
/// place in HTTP/2 (RFC 9113 section 8.2.2) and is left out; so is what is no field at all, which nobody writes.
fn each_field(lines: &[u8], mut field: impl FnMut(&[u8], &[u8])) {
    let mut lower = [0; 64];
    let mut rest = lines;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        rest = &rest[end + 1..];
        let Some(colon) = line.iter().position(|octet| *octet == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if is_of_the_connection(name) {
            continue;
        }
        match lower.get_mut(..name.len()) {
            Some(lower) => {
                lower.copy_from_slice(name);
                lower.make_ascii_lowercase();
                field(lower, value);
            }
            None => field(&name.to_ascii_lowercase(), value),
        }
    }
}

/// Whether a field speaks of an HTTP/1.1 connection. `Content-Length` and `TE: trailers` do not.
fn is_of_the_connection(name: &[u8]) -> bool {
    // The lengths of these names: most others are told by theirs.
    matches!(name.len(), 7 | 10 | 14 | 16 | 17)
        && matches!(
            Known::of(name),
            Known::Connection
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::TransferEncoding
                | Known::Upgrade
                | Known::Http2Settings
        )
}
