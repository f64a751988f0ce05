//! The place of one engine on this machine: its folder, its bridge and its addresses, and their removal.
//!
//! A place is claimed by holding a lock on a file in its folder. The kernel drops the lock with the process, so what a
//! killed test left behind is recognised and removed by the next one that starts an engine.

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::leftovers;
use crate::netns::{run, try_run};

/// Places are numbered 1 to this; the number is the third octet of the addresses.
const PLACES: u8 = 254;

/// A claimed place. Dropped: everything in it is ended and removed.
#[derive(Debug)]
pub(super) struct Place {
    number: u8,
    folder: PathBuf,
    _lock: File,
}

impl Place {
    /// Claims a free place and makes its bridge, after removing what dead tests left in theirs.
    pub(super) fn claim() -> Self {
        let turns = File::create(std::env::temp_dir().join("fairway-engines.lock"));
        let turns = turns.expect("the folder for temporary files can be written");
        turns.lock().expect("the file system of temporary files has locks");
        (1..=PLACES).for_each(sweep);
        let place = (1..=PLACES).find_map(Self::take).expect("fewer than 254 engines run at a time");
        place.make_bridge();
        place
    }

    fn take(number: u8) -> Option<Self> {
        let folder = folder(number);
        fs::create_dir(&folder).ok()?;
        let lock = File::create(owner_file(&folder)).and_then(|file| file.lock().map(|()| file));
        Some(Self { number, folder, _lock: lock.expect("a folder just made can be written") })
    }

    /// A path in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The default bridge; further ones have this name plus `n1`, `n2` and so on.
    pub(super) fn bridge(&self) -> String {
        bridge(self.number)
    }

    /// The address of the machine on the default bridge.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.number, 1)
    }

    /// Where the subnets of further networks are taken from.
    pub(super) fn pool(&self) -> String {
        format!("198.19.{}.0/24", self.number)
    }

    /// The cgroup above those of the containers.
    pub(super) fn cgroup(&self) -> String {
        cgroup(self.number)
    }

    /// Of 198.18.0.0/15 (RFC 2544), which is set apart for measuring and so clashes with no real network.
    fn make_bridge(&self) {
        let (bridge, gateway) = (self.bridge(), format!("{}/24", self.gateway()));
        remove_links(self.number); // of a namespace that outlived its folder
        // With an address of its own, as Docker gives its bridges: else it is the least of those of its ports, and with each
        // container that comes or goes the others may send to one that is gone for a while.
        let hardware = format!("02:42:c6:12:{:02x}:01", self.number);
        run("ip", &["link", "add", &bridge, "address", &hardware, "type", "bridge"]);
        run("ip", &["addr", "add", &gateway, "dev", &bridge]);
        run("ip", &["link", "set", &bridge, "up"]);
        if forwarding_is_filtered() {
            run("iptables", &forward_rule("-I", self.number).each_ref().map(String::as_str));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        remove(self.number);
    }
}

fn sweep(number: u8) {
    let folder = folder(number);
    if !folder.is_dir() {
        return;
    }
    // Without the file its maker died between two lines: claims happen in turns, and this is ours.
    let owner = File::open(owner_file(&folder));
    if owner.map_or(true, |file| file.try_lock().is_ok()) {
        remove(number);
    }
}

fn remove(number: u8) {
    let folder = folder(number);
    leftovers::end_processes(&folder, &cgroup(number));
    leftovers::unmount(&folder);
    remove_links(number);
    if forwarding_is_filtered() {
        // Absent unless forwarding was filtered when the place was claimed.
        let _ = try_run("iptables", &forward_rule("-D", number).each_ref().map(String::as_str));
    }
    leftovers::remove_cgroups(&cgroup(number));
    if let Err(error) = fs::remove_dir_all(&folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        eprintln!("cannot remove {}: {error}", folder.display());
    }
}

fn remove_links(number: u8) {
    let bridge = bridge(number);
    let further = format!("{bridge}n");
    // Not from /sys, which shows the links of the namespace in which it was mounted.
    let links = try_run("ip", &["-o", "link", "show", "type", "bridge"]).unwrap_or_default();
    let names = links.lines().filter_map(|line| Some(line.split(": ").nth(1)?.to_owned()));
    for link in names.filter(|name| *name == bridge || name.starts_with(&further)) {
        if let Err(why) = try_run("ip", &["link", "del", &link]) {
            eprintln!("{why}");
        }
    }
}

/// A system-wide Docker engine lets the kernel's filter drop what is forwarded, also between the ports of our bridges.
fn forwarding_is_filtered() -> bool {
    try_run("iptables", &["-S", "FORWARD"]).is_ok_and(|rules| rules.contains("-P FORWARD DROP"))
}

fn forward_rule(verb: &str, number: u8) -> [String; 8] {
    let links = format!("{}+", bridge(number));
    [verb, "FORWARD", "-i", &links, "-o", &links, "-j", "ACCEPT"].map(str::to_owned)
}

fn folder(number: u8) -> PathBuf {
    std::env::temp_dir().join(format!("fairway-engine-{number}"))
}

fn owner_file(folder: &Path) -> PathBuf {
    folder.join("owner.lock")
}

fn bridge(number: u8) -> String {
    format!("fwt{number}")
}

fn cgroup(number: u8) -> String {
    format!("fairway-engine-{number}")
}
