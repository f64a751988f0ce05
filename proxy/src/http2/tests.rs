//! A connection as its client sees it: frames in, frames out.

use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use fastrand::Rng;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::Instant;

use super::connection::{CONNECTION_WINDOW, Connection, STREAM_WINDOW, Terms};
use super::frame::{self, Code, HEAD, Head, PREFACE, flag, kind, setting};
use super::head::Rules;
use super::hpack::decode::Decoder;
use super::receive::Step;
use super::stream::{Ended, Handle, There};
use crate::h1::HeadLimits;

/// A client, and what it has not been shown yet.
struct Client {
    connection: Rc<Connection>,
    buffer: BytesMut,
    decoder: Decoder,
}

impl Client {
    /// That has said hello.
    fn new(streams: u32) -> Self {
        let terms = Terms { streams, header_list: 10_000, takes_connect: false };
        let connection = Connection::new(terms, Instant::now());
        let mut client = Self { connection, buffer: BytesMut::new(), decoder: Decoder::new() };
        client.octets(PREFACE);
        assert!(client.send(kind::SETTINGS, 0, 0, &[]).is_empty());
        client.send(kind::SETTINGS, flag::ACK, 0, &[]);
        client.frames();
        client
    }

    fn octets(&mut self, octets: &[u8]) -> Vec<Step> {
        self.buffer.extend_from_slice(octets);
        std::iter::from_fn(|| self.connection.step(&mut self.buffer, Instant::now())).collect()
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<Step> {
        let mut octets = Vec::new();
        frame::push(&mut octets, kind, flags, stream, payload);
        self.octets(&octets)
    }

    /// Asks for `/` at `a`.
    fn ask(&mut self, stream: u32, flags: u8) -> Handle {
        // GET, http, / and the authority as a literal.
        let block = [0x82, 0x86, 0x84, 0x01, 1, b'a'];
        let mut steps = self.send(kind::HEADERS, flags | flag::END_HEADERS, stream, &block);
        let Some(Step::Request { stream, .. }) = steps.pop() else { panic!("no request: {steps:?}") };
        self.connection.opened(stream, |handle, _| handle)
    }

    /// What has been said since it was asked last.
    fn frames(&mut self) -> Vec<(Head, Vec<u8>)> {
        let octets = self.connection.with_out(std::mem::take);
        let (mut rest, mut frames) = (&octets[..], Vec::new());
        while let Some(head) = Head::read(rest) {
            frames.push((head, rest[HEAD..HEAD + head.len].to_vec()));
            rest = &rest[HEAD + head.len..];
        }
        assert!(rest.is_empty(), "whole frames");
        frames
    }

    /// Kinds, streams and sizes of the same.
    fn said(&mut self) -> Vec<(u8, u32, usize)> {
        self.frames().into_iter().map(|(head, _)| (head.kind, head.stream, head.len)).collect()
    }

    fn window(&mut self, stream: u32, octets: u32) {
        assert!(self.send(kind::WINDOW_UPDATE, 0, stream, &octets.to_be_bytes()).is_empty());
    }
}

fn send(stream: &Handle, data: &[u8]) -> Poll<usize> {
    stream.poll_send(&Context::from_waker(Waker::noop()), data, false).map(|sent| sent.expect("it is open"))
}

#[test]
fn an_answer_takes_the_windows_of_its_stream_and_of_the_connection() {
    let mut client = Client::new(10);
    let stream = client.ask(1, flag::END_STREAM);
    stream.send_head(200, b"Server: x\r\nConnection: close\r\nX-Y:  z \r\n", false).expect("it is open");
    let frames = client.frames();
    let mut fields = Vec::new();
    let block = &frames[0].1;
    let read = client.decoder.decode(block, |name, value| {
        fields.push([name, b"=", value].concat());
        true
    });
    assert_eq!(read, Ok(()));
    assert_eq!(fields, [&b":status=200"[..], b"server=x", b"x-y=z"]);

    let large = vec![b'x'; 100_000];
    let Poll::Ready(first) = send(&stream, &large) else { panic!("there is room") };
    assert!((60 * 1024..64 * 1024).contains(&first), "as much as may wait: {first}");
    assert_eq!(send(&stream, &large), Poll::Pending);
    assert_eq!(client.said()[..3], [(kind::DATA, 1, 16_384); 3]);
    assert_eq!(send(&stream, &large), Poll::Ready(65_535 - first), "the window");
    client.window(0, 1_000_000);
    assert_eq!(send(&stream, &large), Poll::Pending, "that of the stream");
    client.window(1, 5);
    assert_eq!(send(&stream, &large), Poll::Ready(5));
    client.frames();
    // A setting changes the windows of open streams, below nothing if need be.
    let small = [&setting::INITIAL_WINDOW_SIZE.to_be_bytes()[..], &10u32.to_be_bytes()].concat();
    client.send(kind::SETTINGS, 0, 0, &small);
    client.window(1, 65_525);
    assert_eq!(send(&stream, &large), Poll::Pending);
    client.window(1, 1);
    assert_eq!(send(&stream, &large), Poll::Ready(1));
}

#[test]
fn streams_that_share_a_window_take_turns() {
    let mut client = Client::new(10);
    let streams = [1, 3, 5].map(|number| client.ask(number, flag::END_STREAM));
    for stream in &streams {
        client.window(stream.stream.id, 1_000_000);
    }
    client.frames();
    let large = vec![b'x'; 1_000_000];
    let mut sent = [0; 3];
    for _ in 0..30 {
        for (stream, sent) in streams.iter().zip(&mut sent) {
            while let Poll::Ready(octets) = send(stream, &large) {
                *sent += octets;
            }
        }
        client.frames();
        client.window(0, 20_000);
    }
    assert!(sent.iter().all(|sent| *sent > 100_000), "{sent:?}");
    // One that goes does not hold up the others.
    streams[0].finish();
    streams[1].finish();
    client.window(0, 20_000);
    assert!(send(&streams[2], &large).is_ready());
}

#[test]
fn a_body_is_taken_and_gives_its_windows_back_also_when_nobody_takes_it() {
    let mut client = Client::new(10);
    let stream = client.ask(1, 0);
    let data = vec![b'x'; 16_000];
    for _ in 0..8 {
        assert!(client.send(kind::DATA, 0, 1, &data).is_empty());
    }
    assert!(client.said().is_empty(), "nothing was taken");
    for left in (0..4).rev() {
        let There::Some(data) = stream.take() else { panic!("there is more") };
        assert_eq!(data.len(), if left > 0 { 32 * 1024 } else { 128_000 % (32 * 1024) });
    }
    assert_eq!(client.said(), [(kind::WINDOW_UPDATE, 1, 4)]);
    client.send(kind::DATA, flag::END_STREAM, 1, &data);
    assert!(matches!(stream.take(), There::Last(data, None) if data.len() == 16_000));
    drop(stream);
    // What belongs to streams that have ended counts, too: else the window would be gone one day.
    let mut number = 3;
    let mut given_back = 0;
    for _ in 0..20 {
        let stream = client.ask(number, 0);
        for _ in 0..8 {
            client.send(kind::DATA, 0, number, &data);
        }
        stream.finish();
        client.send(kind::DATA, 0, number, &data);
        number += 2;
        let windows = client.frames();
        let windows = windows.iter().filter(|(head, _)| head.kind == kind::WINDOW_UPDATE && head.stream == 0);
        given_back += windows.map(|(_, octets)| i64::from(frame::number(octets).expect("four"))).sum::<i64>();
    }
    assert!(given_back > 2 * CONNECTION_WINDOW, "{given_back}");
}

#[test]
fn a_window_that_is_not_kept_ends_its_stream() {
    let mut client = Client::new(10);
    let stream = client.ask(1, 0);
    let data = vec![b'x'; 16_384];
    for _ in 0..STREAM_WINDOW / 16_384 {
        client.send(kind::DATA, 0, 1, &data);
    }
    assert_eq!(stream.ended(), None);
    client.send(kind::DATA, 0, 1, b"x");
    assert_eq!(stream.ended(), Some(Ended::Broken));
    let frames = client.frames();
    assert_eq!((frames[0].0.kind, &frames[0].1[..]), (kind::RST_STREAM, &[0, 0, 0, 3][..]));
}

#[test]
fn streams_end_when_both_sides_have_said_all_and_make_room_for_others() {
    let mut client = Client::new(1);
    let first = client.ask(1, 0);
    let steps = client.send(kind::HEADERS, 5, 3, &[0x82, 0x86, 0x84, 0x01, 1, b'a']);
    assert!(matches!(steps[..], [Step::Full]), "{steps:?}");
    first.send_head(204, b"", true).expect("it is open");
    assert_eq!(first.ended(), None, "the request goes on");
    client.send(kind::DATA, flag::END_STREAM, 1, b"end");
    assert_eq!(first.ended(), Some(Ended::ByUs));
    client.frames();
    first.finish();
    assert!(client.said().is_empty(), "nothing is left to be reset");
    let next = client.ask(5, flag::END_STREAM);
    next.finish();
    let frames = client.frames();
    assert_eq!((frames[0].0.kind, &frames[0].1[..]), (kind::RST_STREAM, &[0, 0, 0, 8][..]), "CANCEL");
}

#[test]
fn a_large_header_goes_in_several_frames_and_is_read_as_one() {
    let mut client = Client::new(10);
    let stream = client.ask(1, flag::END_STREAM);
    let lines = format!("Set-Cookie: {}\r\n", "v".repeat(20_000)).repeat(3);
    stream.send_head(200, lines.as_bytes(), true).expect("it is open");
    let frames = client.frames();
    let kinds: Vec<_> = frames.iter().map(|(head, _)| (head.kind, head.flags)).collect();
    let last = kinds.len() - 1;
    assert_eq!(
        (kinds[0], kinds[last]),
        ((kind::HEADERS, flag::END_STREAM), (kind::CONTINUATION, flag::END_HEADERS))
    );
    let block: Vec<u8> = frames.into_iter().flat_map(|(_, payload)| payload).collect();
    let mut count = 0;
    let read = client.decoder.decode(&block, |_, _| {
        count += 1;
        true
    });
    assert_eq!((read, count), (Ok(()), 4));
}

#[test]
fn faults_of_the_connection_end_it_with_their_code() {
    let get = [0x82, 0x86, 0x84, 0x01, 1, b'a'];
    for (kind, flags, stream, payload, code) in [
        (kind::DATA, 0, 0, &b"x"[..], Code::Protocol),
        (kind::DATA, 0, 1, b"x", Code::Protocol),
        (kind::DATA, flag::PADDED, 1, &[9, 0], Code::Protocol),
        (kind::HEADERS, 5, 2, &get, Code::Protocol),
        (kind::HEADERS, 5, 0, &get, Code::Protocol),
        (kind::HEADERS, 5, 1, &[0x80], Code::Compression),
        (kind::HEADERS, 5 | flag::PRIORITY, 1, &get[..4], Code::FrameSize),
        (kind::CONTINUATION, 4, 1, &get, Code::Protocol),
        (kind::RST_STREAM, 0, 1, &[0; 4], Code::Protocol),
        (kind::RST_STREAM, 0, 1, &[0; 3], Code::FrameSize),
        (kind::SETTINGS, 0, 1, &[], Code::Protocol),
        (kind::SETTINGS, 0, 0, &[0; 5], Code::FrameSize),
        (kind::SETTINGS, flag::ACK, 0, &[], Code::Protocol),
        (kind::SETTINGS, flag::ACK, 0, &[0; 6], Code::FrameSize),
        (kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2], Code::Protocol),
        (kind::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0], Code::FlowControl),
        (kind::SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1], Code::Protocol),
        (kind::PUSH_PROMISE, 4, 1, &[0; 8], Code::Protocol),
        (kind::PING, 0, 1, &[0; 8], Code::Protocol),
        (kind::PING, 0, 0, &[0; 7], Code::FrameSize),
        (kind::GOAWAY, 0, 1, &[0; 8], Code::Protocol),
        (kind::WINDOW_UPDATE, 0, 0, &[0; 4], Code::Protocol),
        (kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff], Code::FlowControl),
        (kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1], Code::Protocol),
        (kind::PRIORITY, 0, 1, &[0; 4], Code::FrameSize),
    ] {
        let mut client = Client::new(10);
        let steps = client.send(kind, flags, stream, payload);
        assert!(matches!(steps[..], [Step::Ended(told)] if told == code), "{kind} {payload:?}: {steps:?}");
        let (head, said) = client.frames().pop().expect("a last word");
        assert_eq!((head.kind, said[7]), (kind::GOAWAY, code as u8), "{kind} {payload:?}");
        assert!(client.connection.is_over() && client.send(kind::PING, 0, 0, &[0; 8]).is_empty());
        assert!(client.said().is_empty(), "nothing comes behind it");
    }
}

#[test]
fn nothing_comes_between_the_parts_of_a_header_block() {
    let mut client = Client::new(10);
    assert!(client.send(kind::HEADERS, flag::END_STREAM, 1, &[0x82, 0x86]).is_empty());
    assert!(client.connection.is_in_header(b""));
    let steps = client.send(kind::CONTINUATION, flag::END_HEADERS, 1, &[0x84, 0x01, 1, b'a']);
    assert!(matches!(steps[..], [Step::Request { ends: true, .. }]), "{steps:?}");
    for (kind, stream) in [(kind::PING, 0), (kind::CONTINUATION, 5), (kind::DATA, 1), (99, 3)] {
        let mut client = Client::new(10);
        client.send(kind::HEADERS, 0, 3, &[0x82]);
        let steps = client.send(kind, 0, stream, &[0; 8]);
        assert!(matches!(steps[..], [Step::Ended(Code::Protocol)]), "{kind}: {steps:?}");
    }
}

/// Header blocks that mean something, and some that do not.
fn a_block() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(vec![0x82, 0x86, 0x84, 0x01, 1, b'a']),
        2 => Just(vec![0x83, 0x86, 0x84, 0x01, 1, b'a', 0x5c, 1, b'3']),
        1 => Just(vec![0x82, 0x86, 0x84, 0x41, 1, b'a', 0x40, 1, b'x', 1, b'y', 0xbe, 0xbf]),
        1 => Just(vec![0x40, 1, b't', 1, b'v']),
        1 => vec(any::<u8>(), 0..30),
    ]
}

/// A frame: its kind, flags, stream and payload.
fn a_frame() -> impl Strategy<Value = (u8, u8, u32, Vec<u8>)> {
    let stream = || (0u32..8).prop_map(|number| 2 * number + 1);
    prop_oneof![
        6 => (prop_oneof![Just(4u8), Just(5), any::<u8>()], stream(), a_block())
            .prop_map(|(flags, stream, block)| (kind::HEADERS, flags, stream, block)),
        4 => (0u8..2, stream(), vec(any::<u8>(), 0..300)).prop_map(|(flags, stream, data)| (kind::DATA, flags, stream, data)),
        1 => stream().prop_map(|stream| (kind::RST_STREAM, 0, stream, vec![0, 0, 0, 8])),
        2 => (stream(), 0u32..70_000)
            .prop_map(|(stream, octets)| (kind::WINDOW_UPDATE, 0, stream - 1 + stream % 2, octets.to_be_bytes().to_vec())),
        1 => (1u8..6, any::<u16>())
            .prop_map(|(name, value)| (kind::SETTINGS, 0, 0, [&[0, name, 0, 0], &value.to_be_bytes()[..]].concat())),
        1 => (0u8..11, any::<u8>(), 0u32..12, vec(any::<u8>(), 0..40)),
    ]
}

proptest! {
    #[test]
    fn any_frames_are_borne_and_answered_with_whole_frames(
        frames in vec((a_frame(), 0usize..5), 1..80),
        cut in 1usize..400,
    ) {
        let mut client = Client::new(3);
        let mut open: Vec<Handle> = Vec::new();
        for ((kind, flags, stream, payload), serve) in frames {
            let mut octets = Vec::new();
            frame::push(&mut octets, kind, flags, stream, &payload);
            for part in octets.chunks(cut) {
                for step in client.octets(part) {
                    if let Step::Request { stream, ends } = step {
                        let rules = Rules { limits: HeadLimits::default(), protocols: &[] };
                        let handle = client.connection.opened(stream, |handle, fields| {
                            let _ = fields.request(ends, rules, &mut Vec::new(), &mut Rng::with_seed(1));
                            handle
                        });
                        open.push(handle);
                    }
                }
            }
            if let Some(stream) = open.last() {
                let _ = match serve {
                    0 => stream.send_head(200, b"server: x\r\n", false),
                    1 => stream.send_trailers(b"a: b\r\n"),
                    2 => return_of(stream.poll_send(&Context::from_waker(Waker::noop()), &[b'x'; 9000], false)),
                    3 => return_of(stream.poll_send(&Context::from_waker(Waker::noop()), b"", true)),
                    _ => {
                        let _ = stream.take();
                        stream.finish();
                        open.pop();
                        Ok(())
                    }
                };
            }
            client.frames();
        }
        open.iter().for_each(Handle::finish);
        client.frames();
        prop_assert!(client.connection.is_at_rest(), "no stream and no octet of one is left behind");
    }
}

fn return_of(sent: Poll<std::io::Result<usize>>) -> std::io::Result<()> {
    match sent {
        Poll::Ready(sent) => sent.map(drop),
        Poll::Pending => Ok(()),
    }
}

#[test]
fn the_last_window_of_a_settings_frame_is_the_one_of_all_streams() {
    let mut client = Client::new(10);
    let stream = client.ask(1, flag::END_STREAM);
    let setting =
        |window: u32| [&setting::INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window.to_be_bytes()[..]].concat();
    let windows: Vec<u8> = (0..2000).chain([7]).flat_map(setting).collect();
    assert!(client.send(kind::SETTINGS, 0, 0, &windows).is_empty());
    assert_eq!(send(&stream, &[b'x'; 100]), Poll::Ready(7));
    let newer = client.ask(3, flag::END_STREAM);
    assert_eq!(send(&newer, &[b'x'; 100]), Poll::Ready(7));
    let steps = client.send(kind::SETTINGS, 0, 0, &[setting(1 << 31), setting(7)].concat());
    assert!(matches!(steps[..], [Step::Ended(Code::FlowControl)]), "{steps:?}");
}

#[test]
fn what_comes_behind_the_end_of_a_stream_makes_no_work_and_ends_nothing() {
    let mut client = Client::new(10);
    client.ask(1, 0).reset(Code::NoError);
    client.frames();
    // Trailers, on their way before the client knew: x-a: b, not kept.
    for _ in 0..1000 {
        let trailers = [0x00, 3, b'x', b'-', b'a', 1, b'b'];
        let steps = client.send(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &trailers);
        assert!(steps.is_empty(), "{steps:?}");
        assert_eq!(client.said(), [(kind::RST_STREAM, 1, 4)]);
    }
    client.ask(3, flag::END_STREAM);
}
