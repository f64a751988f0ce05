//! What the frames of a client mean: a state machine that is fed with octets (RFC 9113 sections 5 and 6).
//!
//! A fault of a stream ends that stream, and too many of them the connection (CVE-2025-8671); other faults end the connection
//! at once. Frames for streams that have ended are taken and forgotten: the client may have sent them before it knew.

use std::rc::Rc;

use bytes::{Buf, BytesMut};
use tokio::time::Instant;

use super::connection::{GOODBYE, Leaving, STREAM_WINDOW, State};
use super::frame::{self, Code, HEAD, Head, PAYLOAD_MAX, PREFACE, WINDOW_MAX, flag, kind, number, setting};
use super::stream::{Ended, Stream};

/// Streams that a client may make us reset by breaking the rules, while the connection lives.
const BROKEN_MAX: u32 = 256;

/// DATA of fewer octets is a crumb,
const CRUMB: usize = 256;
/// and so many may wait here before anybody has taken them.
const CRUMBS_MAX: u32 = 8192;

/// A block that is so many times larger than a header may be, before and after it is read, is meant to do harm.
const FAR_TOO_LARGE: usize = 2;
const BOMB: usize = 8;

/// What somebody has to know of.
#[derive(Debug)]
pub(crate) enum Step {
    /// A request; its body follows unless nothing comes behind its head.
    Request { stream: Rc<Stream>, ends: bool },
    /// A request breaks the rules, and was reset.
    Malformed,
    /// There were too many requests at once for this one.
    Full,
    /// The connection ends: the client floods or breaks the rules.
    Ended(Code),
}

/// A header block that is not complete.
#[derive(Debug)]
pub(super) struct Block {
    stream: u32,
    ends: bool,
    octets: Vec<u8>,
}

/// Why a frame cannot be what it is.
enum Fault {
    Stream(u32, Code),
    Connection(Code),
}

impl From<Code> for Fault {
    fn from(code: Code) -> Self {
        Self::Connection(code)
    }
}

type Took = Result<Option<Step>, Fault>;

impl State {
    pub(super) fn step(&mut self, buffer: &mut BytesMut, now: Instant) -> Option<Step> {
        while !self.is_over {
            if self.preface < PREFACE.len() && !self.preface(buffer) {
                return self.fail(Code::Protocol);
            }
            let head = Head::read(buffer)?;
            if head.len > PAYLOAD_MAX {
                return self.fail(Code::FrameSize);
            }
            if buffer.len() < HEAD + head.len {
                return None;
            }
            let took = if self.calm.came(head, now) {
                self.frame(head, &buffer[HEAD..HEAD + head.len])
            } else {
                Err(Code::EnhanceYourCalm.into())
            };
            buffer.advance(HEAD + head.len);
            let step = match took {
                Ok(step) => step,
                Err(Fault::Stream(stream, code)) => self.break_stream(stream, code),
                Err(Fault::Connection(code)) => return self.fail(code),
            };
            if step.is_some() {
                return step;
            }
        }
        buffer.clear();
        None
    }

    /// Takes what there is of the preface; false when it is none.
    fn preface(&mut self, buffer: &mut BytesMut) -> bool {
        let left = &PREFACE[self.preface..];
        let octets = left.len().min(buffer.len());
        let is_one = left[..octets] == buffer[..octets];
        buffer.advance(octets);
        self.preface += octets;
        is_one
    }

    fn fail(&mut self, code: Code) -> Option<Step> {
        self.end(Some(code));
        Some(Step::Ended(code))
    }

    /// Resets a stream that breaks the rules.
    fn break_stream(&mut self, number: u32, code: Code) -> Option<Step> {
        self.push_reset(number, code);
        if let Some(stream) = self.streams.get(&number).cloned() {
            stream.end(Ended::Broken);
            self.forget(&stream);
        }
        self.broken += 1;
        if self.broken > BROKEN_MAX { self.fail(Code::EnhanceYourCalm) } else { None }
    }

    fn frame(&mut self, head: Head, payload: &[u8]) -> Took {
        let in_order = match &self.block {
            Some(block) => head.kind == kind::CONTINUATION && head.stream == block.stream,
            None => head.kind != kind::CONTINUATION,
        };
        let has_settings = std::mem::replace(&mut self.has_settings, true);
        let starts_well = has_settings || (head.kind == kind::SETTINGS && !head.has(flag::ACK));
        if !in_order || !starts_well {
            return Err(Code::Protocol.into());
        }
        match head.kind {
            kind::DATA => self.data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            kind::RST_STREAM => self.reset_came(head, payload),
            kind::SETTINGS => self.settings(head, payload),
            kind::PING => self.ping(head, payload),
            kind::GOAWAY => self.goaway(head, payload),
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            // Priorities are nothing any more but their form (RFC 9113 section 5.3.2).
            kind::PRIORITY => sized(head, 5).map(|()| None),
            kind::PUSH_PROMISE => Err(Code::Protocol.into()),
            // What is unknown is passed over (section 5.5).
            _ => Ok(None),
        }
    }

    /// A frame of a stream that has been opened: the stream, unless it has ended.
    fn stream(&self, head: Head) -> Result<Option<Rc<Stream>>, Fault> {
        if head.stream == 0 || head.stream > self.newest || head.stream.is_multiple_of(2) {
            return Err(Code::Protocol.into());
        }
        Ok(self.streams.get(&head.stream).cloned())
    }

    fn data(&mut self, head: Head, payload: &[u8]) -> Took {
        let data = unpadded(head, payload)?;
        self.receives -= payload.len() as i64;
        if self.receives < 0 {
            return Err(Code::FlowControl.into());
        }
        let Some(stream) = self.stream(head)? else {
            self.give_back(payload.len());
            return Ok(None);
        };
        let taken = self.take_data(head, &stream, data, payload.len());
        // What is not kept takes no room.
        self.give_back(if taken.is_ok() { payload.len() - data.len() } else { payload.len() });
        taken?;
        stream.wake();
        if head.has(flag::END_STREAM) && stream.is_said.get() {
            self.close(&stream);
        }
        if self.crumbs > CRUMBS_MAX { Err(Code::EnhanceYourCalm.into()) } else { Ok(None) }
    }

    fn take_data(&mut self, head: Head, stream: &Stream, data: &[u8], octets: usize) -> Result<(), Fault> {
        let fault = |code| Fault::Stream(head.stream, code);
        let mut body = stream.body.borrow_mut();
        if body.is_whole {
            return Err(fault(Code::StreamClosed));
        }
        body.window -= octets as i64;
        if body.window < 0 {
            return Err(fault(Code::FlowControl));
        }
        body.taken += (octets - data.len()) as i64;
        let ends = head.has(flag::END_STREAM);
        if let Some(left) = &mut body.length_left {
            *left = left.checked_sub(data.len() as u64).ok_or_else(|| fault(Code::Protocol))?;
            if ends && *left > 0 {
                return Err(fault(Code::Protocol));
            }
        }
        if data.len() < CRUMB && !ends {
            body.crumbs += 1;
            self.crumbs += 1;
        }
        body.data.extend_from_slice(data);
        body.is_whole = ends;
        Ok(())
    }

    fn headers(&mut self, head: Head, payload: &[u8]) -> Took {
        if head.stream.is_multiple_of(2) {
            return Err(Code::Protocol.into());
        }
        let mut fragment = unpadded(head, payload)?;
        if head.has(flag::PRIORITY) {
            fragment = fragment.get(5..).ok_or(Code::FrameSize)?;
        }
        let (stream, ends) = (head.stream, head.has(flag::END_STREAM));
        if head.has(flag::END_HEADERS) {
            return self.block(stream, ends, fragment);
        }
        self.block = Some(Block { stream, ends, octets: fragment.to_vec() });
        Ok(None)
    }

    fn continuation(&mut self, head: Head, payload: &[u8]) -> Took {
        let Some(mut block) = self.block.take() else { return Err(Code::Protocol.into()) };
        block.octets.extend_from_slice(payload);
        if block.octets.len() > FAR_TOO_LARGE * self.terms.header_list as usize {
            return Err(Code::EnhanceYourCalm.into());
        }
        if head.has(flag::END_HEADERS) {
            return self.block(block.stream, block.ends, &block.octets);
        }
        self.block = Some(block);
        Ok(None)
    }

    /// A whole header block has come.
    fn block(&mut self, number: u32, ends: bool, octets: &[u8]) -> Took {
        let Self { decoder, fields, terms, .. } = self;
        let most = terms.header_list as usize;
        fields.clear();
        let read = decoder.decode(octets, |name, value| {
            fields.take(name, value, most);
            fields.size() <= most * BOMB
        });
        if read.is_err() {
            let is_bomb = fields.size() > most * BOMB;
            return Err(if is_bomb { Code::EnhanceYourCalm } else { Code::Compression }.into());
        }
        if let Some(stream) = self.streams.get(&number).cloned() {
            return self.trailers(&stream, ends);
        }
        if number <= self.newest {
            // Trailers that were on their way when we ended the stream, or nothing that may be: no work comes of either.
            self.push_reset(number, Code::StreamClosed);
            return Ok(None);
        }
        self.newest = number;
        if matches!(self.leaving, Leaving::Named(_)) {
            return Ok(None); // it was told that nobody serves this one
        }
        if self.fields.check(ends, self.terms.takes_connect).is_err() {
            return Ok(self.break_stream(number, Code::Protocol).or(Some(Step::Malformed)));
        }
        if self.streams.len() >= self.terms.streams as usize {
            return Ok(self.break_stream(number, Code::RefusedStream).or(Some(Step::Full)));
        }
        let stream = Stream::new(number, self.stream_window, STREAM_WINDOW, self.fields.length(), ends);
        self.streams.insert(number, stream.clone());
        Ok(Some(Step::Request { stream, ends }))
    }

    fn trailers(&mut self, stream: &Rc<Stream>, ends: bool) -> Took {
        let fault = |code| Fault::Stream(stream.id, code);
        let mut body = stream.body.borrow_mut();
        if body.is_whole {
            return Err(fault(Code::StreamClosed));
        }
        let trailers = self.fields.trailers().map_err(|_| fault(Code::Protocol))?;
        if !ends || body.length_left.is_some_and(|left| left > 0) {
            return Err(fault(Code::Protocol));
        }
        (body.is_whole, body.trailers) = (true, Some(trailers));
        drop(body);
        stream.wake();
        if stream.is_said.get() {
            self.close(stream);
        }
        Ok(None)
    }

    fn reset_came(&mut self, head: Head, _: &[u8]) -> Took {
        sized(head, 4)?;
        if let Some(stream) = self.stream(head)? {
            stream.end(Ended::ByClient);
            self.forget(&stream);
        }
        Ok(None)
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Took {
        if head.stream != 0 {
            return Err(Code::Protocol.into());
        }
        if head.has(flag::ACK) {
            sized(head, 0)?;
            return if std::mem::take(&mut self.asks_ack) { Ok(None) } else { Err(Code::Protocol.into()) };
        }
        if !payload.len().is_multiple_of(6) {
            return Err(Code::FrameSize.into());
        }
        let mut window = self.stream_window;
        for chunk in payload.chunks_exact(6) {
            let name = u16::from_be_bytes([chunk[0], chunk[1]]);
            match (name, number(&chunk[2..]).unwrap_or(0)) {
                (setting::INITIAL_WINDOW_SIZE, value) => window = i64::from(value),
                (name, value) => self.setting(name, value)?,
            }
            if window > WINDOW_MAX {
                return Err(Code::FlowControl.into());
            }
        }
        // Once for all that a frame says of it: streams are many.
        self.resize_windows(window)?;
        frame::push(&mut self.out, kind::SETTINGS, flag::ACK, 0, b"");
        Ok(None)
    }

    fn setting(&mut self, name: u16, value: u32) -> Result<(), Code> {
        match name {
            setting::HEADER_TABLE_SIZE => self.encoder.resize(value as usize),
            setting::ENABLE_PUSH if value > 1 => return Err(Code::Protocol),
            // Larger frames than the smallest allowed would only make streams wait for each other.
            setting::MAX_FRAME_SIZE if !(PAYLOAD_MAX..1 << 24).contains(&(value as usize)) => {
                return Err(Code::Protocol);
            }
            _ => {}
        }
        Ok(())
    }

    /// Streams that are open change with the setting, also below nothing (section 6.9.2).
    fn resize_windows(&mut self, window: i64) -> Result<(), Code> {
        let more = window - std::mem::replace(&mut self.stream_window, window);
        if more == 0 {
            return Ok(());
        }
        for stream in self.streams.values() {
            let changed = stream.window.get() + more;
            if changed > WINDOW_MAX {
                return Err(Code::FlowControl);
            }
            stream.window.set(changed);
            stream.wake();
        }
        Ok(())
    }

    fn ping(&mut self, head: Head, payload: &[u8]) -> Took {
        sized(head, 8)?;
        if head.stream != 0 {
            return Err(Code::Protocol.into());
        }
        if !head.has(flag::ACK) {
            frame::push(&mut self.out, kind::PING, flag::ACK, 0, payload);
        } else if payload == GOODBYE && self.leaving == Leaving::Told {
            self.leaving = Leaving::Named(self.newest);
            self.push_goaway(self.newest, Code::NoError);
        }
        Ok(None)
    }

    fn goaway(&mut self, head: Head, payload: &[u8]) -> Took {
        if head.stream != 0 {
            return Err(Code::Protocol.into());
        }
        if payload.len() < 8 {
            return Err(Code::FrameSize.into());
        }
        self.client_leaves = true;
        Ok(None)
    }

    fn window_update(&mut self, head: Head, payload: &[u8]) -> Took {
        sized(head, 4)?;
        let increment = i64::from(number(payload).unwrap_or(0) & 0x7fff_ffff);
        if head.stream == 0 {
            self.window += increment;
            return match self.window {
                _ if increment == 0 => Err(Code::Protocol.into()),
                window if window > WINDOW_MAX => Err(Code::FlowControl.into()),
                _ => {
                    self.call_first();
                    Ok(None)
                }
            };
        }
        let Some(stream) = self.stream(head)? else { return Ok(None) };
        let window = stream.window.get() + increment;
        if increment == 0 {
            return Err(Fault::Stream(head.stream, Code::Protocol));
        }
        if window > WINDOW_MAX {
            return Err(Fault::Stream(head.stream, Code::FlowControl));
        }
        stream.window.set(window);
        stream.wake();
        Ok(None)
    }
}

/// A frame of this kind has one size.
fn sized(head: Head, len: usize) -> Result<(), Fault> {
    if head.len == len { Ok(()) } else { Err(Code::FrameSize.into()) }
}

/// A payload without its padding (section 6.1).
fn unpadded(head: Head, payload: &[u8]) -> Result<&[u8], Fault> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or(Code::FrameSize)?;
    let len = rest.len().checked_sub(usize::from(*padding)).ok_or(Code::Protocol)?;
    Ok(&rest[..len])
}
