//! The text of an address, without memory of its own: made once for a connection, written with each of its requests.

use std::fmt::Write as _;
use std::net::IpAddr;

/// Longest text of an address: an IPv4 address mapped into IPv6, in full.
const LONGEST: usize = 45;

/// The text of an address; of an IPv4 address that was mapped into IPv6, that of the IPv4 address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AddressText {
    octets: [u8; LONGEST],
    len: u8,
    is_ipv6: bool,
}

impl AddressText {
    /// Of this address.
    pub(crate) fn new(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let mut text = Self { octets: [0; LONGEST], len: 0, is_ipv6: address.is_ipv6() };
        // Longer than the longest it never is.
        let _ = write!(text, "{address}");
        text
    }

    /// The text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }

    /// Whether it stands for an IPv6 address.
    pub(crate) fn is_ipv6(&self) -> bool {
        self.is_ipv6
    }
}

impl std::fmt::Write for AddressText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let at = usize::from(self.len);
        let free = self.octets.get_mut(at..at + text.len()).ok_or(std::fmt::Error)?;
        free.copy_from_slice(text.as_bytes());
        self.len += u8::try_from(text.len()).map_err(|_| std::fmt::Error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_its_text() {
        for (address, want) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"),
            ("::1", "::1"),
        ] {
            let text = AddressText::new(address.parse().expect("an address"));
            assert_eq!(text.as_bytes(), want.as_bytes());
            assert_eq!(text.is_ipv6(), want.contains(':'), "{address}");
        }
    }
}
