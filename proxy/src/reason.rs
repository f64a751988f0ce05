//! The words that say why a request ended as it did: in the access log, in the `reason` label of metrics, and in the
//! `type` of a refusal (design rule 8). Stable: people script against them.
//!
//! Not here: how a refusal is written to the client (see `downstream`).

use std::fmt;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal, $status:expr, $title:literal;)+) => {
        /// Why a request ended as it did.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The status of the answer that Fairway itself gives; `None` when the answer is the instance's.
            pub const fn status(self) -> Option<u16> {
                match self { $(Self::$variant => $status),+ }
            }

            /// One sentence for people, the `title` of the problem.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }
        }
    };
}

reasons! {
    /// An instance answered, whatever it said, and the answer was passed on whole.
    Ok = "ok", None, "the instance answered";

    // What the table says.
    /// No route covers host and path, or the client may not know of it.
    NoRoute = "no-route", Some(404), "no route covers this host and path";
    /// Not every source has been listed yet.
    NotSettled = "not-settled", Some(503), "still starting: not every source has been listed yet";
    /// The route is for TLS only.
    RedirectToHttps = "redirect-to-https", Some(308), "this host is served over https only";

    /// An authority asked whether the host is ours.
    AcmeChallenge = "acme-challenge", Some(200), "an authority asked whether this host is ours";
    // What the features of the route say.
    /// The client is not in the route's list.
    ClientRefused = "client-refused", Some(403), "this client is not served here";
    /// All clients of the route together ask too often.
    RateLimited = "rate-limited", Some(429), "this route gets too many requests";
    /// The client asks too often.
    ClientRateLimited = "client-rate-limited", Some(429), "this client sends too many requests";
    /// No user, or a wrong password.
    Unauthorized = "unauthorized", Some(401), "a user and a password are asked for here";
    /// Too many passwords wait to be checked.
    AuthBusy = "auth-busy", Some(503), "too many logins at once";
    /// The route sends its clients elsewhere; with the status that it says.
    Redirected = "redirected", Some(307), "what is asked for is elsewhere";

    // What the choice of an instance says.
    /// No instance of the route was ready, and none became so while the request was held.
    NoReadyInstance = "no-ready-instance", Some(503), "no instance of this route is ready";
    /// Too many requests of the route are held already.
    HoldFull = "hold-full", Some(503), "too many requests wait for an instance of this route";
    /// Every instance that may serve has its limit of requests in flight, and none had a place while the request waited.
    InstancesFull = "instances-full", Some(503), "every instance of this route is at its limit of requests in flight";
    /// The same, and too many requests wait already.
    QueueFull = "queue-full", Some(503), "too many requests wait for a place at an instance of this route";

    // What the way to the instance says.
    /// No connection: refused, unreachable.
    ConnectFailed = "connect-failed", Some(502), "connecting to the instance failed";
    /// No connection in time.
    ConnectTimeout = "connect-timeout", Some(504), "connecting to the instance took too long";
    /// No TLS: its certificate is not believed, or it speaks none.
    UpstreamTlsFailed = "upstream-tls-failed", Some(502), "TLS with the instance cannot be agreed upon";
    /// The connection ended before a whole response head.
    UpstreamClosed = "upstream-closed", Some(502), "the instance closed the connection before it answered";
    /// It lost its address before a response head came: its network was taken from it.
    UpstreamLost = "upstream-lost", Some(502), "the instance lost its network before it answered";
    /// It refused the request without having looked at it.
    UpstreamRefused = "upstream-refused", Some(502), "the instance refused to take the request";
    /// It cannot be asked for the protocol that the client wants to switch to.
    UpstreamNoUpgrade = "upstream-no-upgrade", Some(502), "the instance cannot be asked for this upgrade";
    /// Its response cannot be read as HTTP.
    UpstreamInvalid = "upstream-invalid", Some(502), "the instance's answer is not valid HTTP";
    /// No response head in time.
    UpstreamTimeout = "upstream-timeout", Some(504), "the instance did not answer in time";
    /// The body of the answer stopped too long or ended early: the answer downstream was cut.
    UpstreamCut = "upstream-cut", Some(502), "the instance's answer broke off";
    /// People ordered its drain, and it still ran when that ended (`fairway.drain`).
    DrainEnded = "drain-ended", Some(503), "the instance was drained, and the request took longer than that";
    /// The whole exchange took too long.
    TotalTimeout = "total-timeout", Some(504), "the request took too long as a whole";

    // What the client did.
    /// It left before the answer was complete.
    ClientLeft = "client-left", Some(499), "the client left";
    /// Its request body did not arrive in time.
    ClientTimeout = "client-timeout", Some(408), "the request did not arrive in time";
    /// Its request body has more octets than the route or the listener takes.
    BodyTooLarge = "body-too-large", Some(413), "the request body is too large";
    /// Its request body arrived more slowly than the listener allows.
    BodyTooSlow = "body-too-slow", Some(408), "the request body arrived too slowly";
    /// Its request body broke its framing.
    BodyInvalid = "body-invalid", Some(400), "the request body is not framed as announced";

    // What cannot be read in one way only.
    /// Not HTTP.
    RequestInvalid = "request-invalid", Some(400), "the request is not valid HTTP";
    /// No Host.
    HostMissing = "host-missing", Some(400), "the request names no host";
    /// Several Hosts, or one that is none.
    HostInvalid = "host-invalid", Some(400), "the request's host is not one valid host";
    /// The Host differs from the target's.
    HostDiffers = "host-differs", Some(400), "the Host field differs from the host of the request target";
    /// Several lengths, or a length beside an encoding.
    ConflictingLength = "conflicting-length", Some(400), "the request gives its length in two ways";
    /// A Content-Length that is no number.
    LengthInvalid = "length-invalid", Some(400), "the Content-Length is not a number";
    /// A Transfer-Encoding other than `chunked` once.
    TransferEncoding = "transfer-encoding", Some(400), "the transfer encoding is not exactly `chunked`";
    /// A path that another parser could read as another.
    PathInvalid = "path-invalid", Some(400), "the path could be read as another path";
    /// A target longer than the listener takes; 8 KiB by default.
    TargetTooLong = "target-too-long", Some(414), "the request target is too long";
    /// More fields or octets of header than the listener takes; 100 and 64 KiB by default.
    HeaderTooLarge = "header-too-large", Some(431), "the request header is too large";
    /// CONNECT, TRACE and the like.
    MethodRefused = "method-refused", Some(501), "this method is not served";
    /// More streams at once than an HTTP/2 connection may have; the client saw its stream reset with REFUSED_STREAM.
    StreamsFull = "streams-full", Some(503), "the connection has as many streams as it may have";
    /// The rules of HTTP/2 were broken, by a connection or a stream: one line tells of it, beside those of its requests.
    Http2Invalid = "http2-invalid", Some(400), "the rules of HTTP/2 are broken";
    /// An HTTP/2 connection sent too much that asks for nothing, and was ended.
    Http2Flood = "http2-flood", Some(429), "the connection floods";
    /// An HTTP version that is not spoken.
    VersionRefused = "version-refused", Some(505), "this version of HTTP is not served";
    /// An expectation other than 100-continue.
    ExpectationRefused = "expectation-refused", Some(417), "this expectation cannot be met";
    /// An upgrade that the listener does not list.
    UpgradeRefused = "upgrade-refused", Some(400), "this upgrade is not served";
    /// The connection was made for another host.
    Misdirected = "misdirected", Some(421), "this connection does not serve this host";
    /// `Via` names this node more than 5 times.
    Loop = "loop", Some(508), "the request has passed here before: a service routes to the proxy itself";
    /// No descriptor is left for a connection to the instance.
    OutOfFiles = "out-of-files", Some(503), "the proxy has no file descriptor left";
    /// A fault of Fairway's own.
    Internal = "internal", Some(500), "a fault in the proxy";
}

impl Reason {
    /// Whether it says how the way to an instance ended, so that another instance may do better.
    pub(crate) fn is_of_the_way(self) -> bool {
        matches!(
            self,
            Self::ConnectFailed
                | Self::ConnectTimeout
                | Self::OutOfFiles
                | Self::UpstreamTlsFailed
                | Self::UpstreamClosed
                | Self::UpstreamLost
                | Self::UpstreamRefused
                | Self::UpstreamNoUpgrade
                | Self::UpstreamInvalid
                | Self::UpstreamTimeout
                | Self::DrainEnded
                | Self::TotalTimeout
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_documented_with_its_status() {
        let page = include_str!("../../docs/observe.md");
        for reason in Reason::ALL {
            let status =
                reason.status().map_or_else(|| "the instance's".to_owned(), |status| status.to_string());
            let line = format!("| `{reason}` | {status} | {} |", reason.title());
            assert!(page.lines().any(|told| told == line), "docs/observe.md lacks: {line}");
        }
    }

    #[test]
    fn every_reason_has_a_word_of_its_own_and_a_number_that_finds_it() {
        for (number, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number, "{reason}");
            let same = Reason::ALL.iter().filter(|other| other.as_str() == reason.as_str());
            assert_eq!(same.count(), 1, "{reason}");
            assert!(
                reason.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'2' || b == b'-'),
                "{reason}"
            );
        }
    }
}
