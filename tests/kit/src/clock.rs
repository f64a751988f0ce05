//! Sets the wall clock of one running process, and of nothing else: the machine's clock stays as it is.
//!
//! Programs read clocks by code that the kernel maps into each of them, the vDSO, without a system call. In the process at
//! hand its `clock_gettime` is overwritten by one that asks the kernel and adds an offset to `CLOCK_REALTIME`; all other
//! clocks are told as they are. A library for `LD_PRELOAD` would do it for programs that are linked dynamically.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::process::{Process, send_signal};
use crate::wait::{PATIENCE, until};

/// What is put in place of `clock_gettime`:
///
/// ```text
/// mov  eax, 228            SYS_clock_gettime, arguments as they are
/// syscall
/// test edi, edi            CLOCK_REALTIME is 0
/// jne  ret
/// mov  rdx, [rip + 6]      the offset behind the code
/// add  [rsi], rdx          tv_sec
/// ret
/// ```
const CODE: [u8; 24] = [
    0xb8, 0xe4, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x85, 0xff, 0x75, 0x0a, 0x48, 0x8b, 0x15, 0x06, 0x00, 0x00,
    0x00, 0x48, 0x01, 0x16, 0xc3, 0x90, 0x90,
];

/// Where the offset is, from the first octet of the code: aligned, so that one write changes it whole.
const OFFSET_AT: u64 = CODE.len() as u64;

/// The wall clock of a process.
#[derive(Debug)]
pub struct WallClock {
    memory: File,
    offset_at: u64,
}

impl WallClock {
    /// Takes the clock of this process into hand. It stands still for a moment.
    ///
    /// # Panics
    /// When the process has ended, or the kernel maps no such code into it.
    pub async fn of(process: &Process) -> Self {
        let pid = process.pid();
        let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"));
        let memory = memory.expect("the memory of a child is its parent's to write");
        let (start, size) = clock_gettime(pid, &memory);
        let whole = CODE.len() as u64 + 8;
        assert!(size >= whole && start.is_multiple_of(8), "{size} octets at {start:x} have no room");
        let code = [&CODE[..], &0_i64.to_le_bytes()].concat();
        // Nobody may be on the way through what is overwritten.
        let elsewhere = async || {
            send_signal(pid, libc::SIGSTOP);
            let places = until("the threads at rest", PATIENCE, async || places(pid)).await;
            let is_free = places.iter().all(|place| !(start..start + whole).contains(place));
            if !is_free {
                send_signal(pid, libc::SIGCONT);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            is_free.then_some(())
        };
        until("nobody in clock_gettime", PATIENCE, elsewhere).await;
        memory.write_all_at(&code, start).expect("what the kernel maps may be overwritten, as debuggers do");
        send_signal(pid, libc::SIGCONT);
        Self { memory, offset_at: start + OFFSET_AT }
    }

    /// From now on it differs so many seconds from the machine's, ahead if that is positive.
    ///
    /// # Panics
    /// When the process has ended.
    pub fn set_ahead(&self, seconds: i64) {
        self.memory.write_all_at(&seconds.to_le_bytes(), self.offset_at).expect("the process runs");
    }
}

/// Where each thread of a process is that stands still; `None` while one runs.
fn places(pid: i32) -> Option<Vec<u64>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    threads.map(|thread| place(&fs::read_to_string(thread.ok()?.path().join("syscall")).ok()?)).collect()
}

/// The last word of `/proc/PID/syscall`; a thread that runs has none.
fn place(syscall: &str) -> Option<u64> {
    u64::from_str_radix(syscall.split_whitespace().last()?.strip_prefix("0x")?, 16).ok()
}

/// Where `clock_gettime` is in the process, and how many octets it has.
fn clock_gettime(pid: i32, memory: &File) -> (u64, u64) {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process runs");
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).expect("a vDSO");
    let (start, rest) = line.split_once('-').expect("a range");
    let end = rest.split(' ').next().expect("a range");
    let number = |text| u64::from_str_radix(text, 16).expect("an address");
    let (start, end) = (number(start), number(end));
    let mut image = vec![0; usize::try_from(end - start).expect("it is small")];
    memory.read_exact_at(&mut image, start).expect("it can be read");
    let (at, size) = symbol(&image, "__vdso_clock_gettime").expect("the vDSO has a clock_gettime");
    (start + at, size)
}

/// The value and the size of a symbol of an ELF image of 64 bits (System V ABI, chapter 4).
fn symbol(image: &[u8], name: &str) -> Option<(u64, u64)> {
    const DYNSYM: u64 = 11;
    let number = |at: usize, size: usize| -> Option<u64> {
        let octets = image.get(at..at.checked_add(size)?)?;
        Some(octets.iter().rev().fold(0, |number, octet| number << 8 | u64::from(*octet)))
    };
    let at = |at: usize| number(at, 8).and_then(|number| usize::try_from(number).ok());
    let (sections, size, count) = (at(0x28)?, number(0x3a, 2)? as usize, number(0x3c, 2)? as usize);
    let section = |n: usize| sections + n * size;
    let table = (0..count).map(section).find(|section| number(section + 4, 4) == Some(DYNSYM))?;
    let (symbols, length) = (at(table + 0x18)?, at(table + 0x20)?);
    let names = at(section(number(table + 0x28, 4)? as usize) + 0x18)?;
    let wanted = [name.as_bytes(), b"\0"].concat();
    (symbols..symbols + length).step_by(24).find_map(|symbol| {
        let named = names + number(symbol, 4)? as usize;
        let is_it = image.get(named..)?.starts_with(&wanted);
        is_it.then_some((number(symbol + 8, 8)?, number(symbol + 16, 8)?))
    })
}
