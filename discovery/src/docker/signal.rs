//! Signals as Docker writes them: by number in events, by name or number in a container's `StopSignal`.

/// A signal by its Linux number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signal(u8);

/// Linux numbers of the generic table; engines run on nothing else that differs in what stops a container.
const NAMES: [(&str, u8); 33] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("POLL", 29),
];

/// The first and last real-time signal as the C library counts them.
const REAL_TIME: std::ops::RangeInclusive<u8> = 34..=64;

impl Signal {
    /// What stops a container that names nothing else.
    pub(super) const TERM: Self = Self(15);
    /// What ends any container.
    pub(super) const KILL: Self = Self(9);

    /// Reads `15`, `TERM`, `SIGTERM`, `RTMIN+3`, `SIGRTMAX-2`, in any case.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_uppercase();
        if let Ok(number) = text.parse::<u8>() {
            return (1..=*REAL_TIME.end()).contains(&number).then_some(Self(number));
        }
        let name = text.strip_prefix("SIG").unwrap_or(&text);
        if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Some(Self(*number));
        }
        let offset = |text: &str, sign: char| match text {
            "" => Some(0),
            _ => text.strip_prefix(sign)?.parse::<u8>().ok(),
        };
        let number = if let Some(rest) = name.strip_prefix("RTMIN") {
            REAL_TIME.start().checked_add(offset(rest, '+')?)?
        } else {
            REAL_TIME.end().checked_sub(offset(name.strip_prefix("RTMAX")?, '-')?)?
        };
        REAL_TIME.contains(&number).then_some(Self(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_of_one_signal_are_equal() {
        for (text, number) in [
            ("15", 15),
            ("TERM", 15),
            ("SIGTERM", 15),
            (" sigterm ", 15),
            ("SIGQUIT", 3),
            ("3", 3),
            ("SIGKILL", 9),
            ("SIGRTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMIN+3", 37),
            ("37", 37),
            ("SIGRTMAX-2", 62),
            ("RTMAX", 64),
        ] {
            assert_eq!(Signal::parse(text), Some(Signal(number)), "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_none() {
        for text in
            ["", "0", "65", "999", "-1", "TERMINATE", "SIG", "RTMIN-1", "RTMIN+40", "RTMAX+1", "RTMIN+x", "ſ"]
        {
            assert_eq!(Signal::parse(text), None, "{text:?}");
        }
    }
}
