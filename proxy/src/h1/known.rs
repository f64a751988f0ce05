//! The field names that mean something to a proxy, recognised once when a head is read.

macro_rules! known {
    (
        names { $($(#[doc = $doc:literal])* $variant:ident = $name:literal;)+ }
        claims { $($claim:ident = $said:literal;)+ }
    ) => {
        /// A field name that means something here. Others are [`Known::Other`] and pass untouched.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Known {
            /// Any other name.
            Other,
            /// A name by which other proxies, and the frameworks behind them, say where a request came from, or what it asked
            /// for at first; any `x-forwarded-*` that has no name of its own here.
            Claim,
            $($(#[doc = $doc])* #[doc = concat!("`", $name, "`")] $variant,)+
        }

        impl Known {
            /// Recognises a name in any case.
            pub fn of(name: &[u8]) -> Self {
                match key(name) {
                    $(keys::$variant if name.eq_ignore_ascii_case($name.as_bytes()) => Self::$variant,)+
                    $(keys::$claim if name.eq_ignore_ascii_case($said.as_bytes()) => Self::Claim,)+
                    _ if is_forwarded_something(name) => Self::Claim,
                    _ => Self::Other,
                }
            }

            /// Octets of the longest name.
            pub const LONGEST: usize = {
                let (lengths, mut longest, mut at) = ([$($name.len(),)+ $($said.len()),+], 0, 0);
                while at < lengths.len() {
                    longest = if lengths[at] > longest { lengths[at] } else { longest };
                    at += 1;
                }
                longest
            };

            /// The name in lower case, empty for [`Known::Other`] and [`Known::Claim`].
            pub const fn name(self) -> &'static str {
                match self { Self::Other | Self::Claim => "", $(Self::$variant => $name),+ }
            }

            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),+];

            #[cfg(test)]
            const CLAIMS: &'static [&'static str] = &[$($said),+];
        }

        /// The [`key`] of each name.
        #[expect(non_upper_case_globals, reason = "named as the variants are")]
        mod keys {
            $(pub(super) const $variant: u32 = super::key($name.as_bytes());)+
            $(pub(super) const $claim: u32 = super::key($said.as_bytes());)+
        }
    };
}

/// Length, first and last octet of a name, in lower case: decides nearly every name, so that one comparison is left.
const fn key(name: &[u8]) -> u32 {
    let [first, .., last] = name else { return 0 };
    (name.len() as u32) << 16 | (*first as u32 | 0x20) << 8 | (*last as u32 | 0x20)
}

/// Whether it is `X-Forwarded` or `X-Forwarded-` and anything, with `_` for `-` too.
fn is_forwarded_something(name: &[u8]) -> bool {
    const START: &[u8] = b"x-forwarded";
    let Some((start, rest)) = name.split_at_checked(START.len()) else { return false };
    let is_same =
        |(octet, want): (&u8, &u8)| octet.eq_ignore_ascii_case(want) || (*octet == b'_' && *want == b'-');
    start.iter().zip(START).all(is_same) && matches!(rest.first(), None | Some(b'-' | b'_'))
}

known! {
    names {
        Te = "te";
        Via = "via";
        Host = "host";
        Date = "date";
        Cookie = "cookie";
        Expect = "expect";
        Server = "server";
        Proxy = "proxy";
        Upgrade = "upgrade";
        Trailer = "trailer";
        Forwarded = "forwarded";
        XRealIp = "x-real-ip";
        Connection = "connection";
        KeepAlive = "keep-alive";
        SetCookie = "set-cookie";
        Traceparent = "traceparent";
        Tracestate = "tracestate";
        MaxForwards = "max-forwards";
        Authorization = "authorization";
        ContentType = "content-type";
        ContentRange = "content-range";
        ContentLength = "content-length";
        ContentEncoding = "content-encoding";
        CacheControl = "cache-control";
        XRequestId = "x-request-id";
        XFairwayExplain = "x-fairway-explain";
        XForwardedFor = "x-forwarded-for";
        XForwardedHost = "x-forwarded-host";
        XForwardedPort = "x-forwarded-port";
        XForwardedProto = "x-forwarded-proto";
        XForwardedPrefix = "x-forwarded-prefix";
        ProxyConnection = "proxy-connection";
        XClientCertSubject = "x-client-cert-subject";
        XClientCertFingerprint = "x-client-cert-fingerprint";
        ProxyAuthorization = "proxy-authorization";
        ProxyAuthenticate = "proxy-authenticate";
        TransferEncoding = "transfer-encoding";
        Http2Settings = "http2-settings";
        /// An instance takes itself out of service, as Envoy has it.
        WantsOut = "x-envoy-immediate-health-check-fail";
        /// Marks the copy of a request: ours alone to say.
        XFairwayMirror = "x-fairway-mirror";
    }
    claims {
        XOriginalUrl = "x-original-url";
        XOriginalUri = "x-original-uri";
        XOriginalHost = "x-original-host";
        XOriginalMethod = "x-original-method";
        XOriginalProto = "x-original-proto";
        XOriginalFor = "x-original-for";
        XOriginalForwardedFor = "x-original-forwarded-for";
        XRewriteUrl = "x-rewrite-url";
        FrontEndHttps = "front-end-https";
        XUrlScheme = "x-url-scheme";
        XScheme = "x-scheme";
        ClientIp = "client-ip";
        XClientIp = "x-client-ip";
        TrueClientIp = "true-client-ip";
        XClusterClientIp = "x-cluster-client-ip";
        XOriginatingIp = "x-originating-ip";
        XRemoteIp = "x-remote-ip";
        XRemoteAddr = "x-remote-addr";
        ProxyClientIp = "proxy-client-ip";
        WlProxyClientIp = "wl-proxy-client-ip";
        CfConnectingIp = "cf-connecting-ip";
        CfConnectingIpv6 = "cf-connecting-ipv6";
        FastlyClientIp = "fastly-client-ip";
        FlyClientIp = "fly-client-ip";
        AliCdnRealIp = "ali-cdn-real-ip";
        XAzureClientIp = "x-azure-clientip";
        XAppengineUserIp = "x-appengine-user-ip";
        XEnvoyExternalAddress = "x-envoy-external-address";
    }
}

impl Known {
    /// A bit of its own.
    pub(super) const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// Whether the field speaks to the next hop alone (RFC 9110 section 7.6.1), named in `Connection` or not. Framing
    /// fields are among them: each hop writes its own.
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Te
                | Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::Upgrade
                | Self::TransferEncoding
                | Self::ContentLength
                | Self::Http2Settings
                | Self::WantsOut
        )
    }

    /// Whether the field says where a request came from: only a trusted peer may say so.
    pub fn is_forwarding(self) -> bool {
        matches!(
            self,
            Self::Claim
                | Self::Forwarded
                | Self::XRealIp
                | Self::XForwardedFor
                | Self::XForwardedHost
                | Self::XForwardedPort
                | Self::XForwardedProto
                | Self::XForwardedPrefix
                | Self::XRequestId
                | Self::XClientCertSubject
                | Self::XClientCertFingerprint
        )
    }

    /// Whether the field may stand in a trailer section: nothing that frames, routes, authenticates, modifies the request
    /// or says where it came from (RFC 9110 section 6.5.1).
    pub fn may_trail(self) -> bool {
        matches!(self, Self::Other | Self::Server | Self::Date)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_recognised_in_any_case() {
        for known in Known::ALL {
            assert_eq!(Known::of(known.name().as_bytes()), *known);
            assert_eq!(Known::of(known.name().to_ascii_uppercase().as_bytes()), *known);
            let longer = Known::of(format!("{}x", known.name()).as_bytes());
            assert!(matches!(longer, Known::Other | Known::Claim), "{longer:?}");
        }
    }

    #[test]
    fn what_other_proxies_say_of_a_request_is_a_claim() {
        for name in Known::CLAIMS {
            assert_eq!(Known::of(name.as_bytes()), Known::Claim, "{name}");
            assert_eq!(Known::of(name.to_ascii_uppercase().as_bytes()), Known::Claim, "{name}");
        }
        for (name, want) in [
            ("X-Forwarded", Known::Claim),
            ("X-Forwarded-Server", Known::Claim),
            ("x-forwarded-tls-client-cert-of-any-length", Known::Claim),
            ("x_forwarded_for", Known::Claim),
            ("X-Forwarded-For", Known::XForwardedFor),
            ("x-forwardedness", Known::Other),
            ("x-forwarde", Known::Other),
            ("x-original", Known::Other),
            ("client-tip", Known::Other),
        ] {
            assert_eq!(Known::of(name.as_bytes()), want, "{name}");
        }
    }
}
