//! Ports for what cannot be told its port afterwards.

use std::sync::atomic::{AtomicU32, Ordering};

/// A port that nobody has, below those that the system hands out by itself: no connection and no other listener takes it
/// meanwhile.
///
/// # Panics
/// Never, as long as one of 20,000 ports is free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Tests run side by side, each in its own process: far apart for neighbouring process numbers.
    let own = std::process::id().wrapping_mul(10_299);
    loop {
        let tried = own.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + u16::try_from(tried % 20_000).expect("it is below 20,000");
        let address = ("127.0.0.1", port);
        if std::net::TcpListener::bind(address).is_ok() && std::net::UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
}
