//! Keys and values as bytes: what bpf/redirect.h says in C.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::table::{Entry, SERVICE_MAX, TARGETS_MAX, Target, Unready};

/// Raised with every change of bpf/redirect.h: a new layout gets maps of its own.
pub(crate) const LAYOUT: u32 = 1;

pub(crate) const KEY: usize = 20;
pub(crate) const TARGET: usize = 24;
pub(crate) const ENTRY: usize = 8 + SERVICE_MAX + TARGETS_MAX * TARGET;
pub(crate) const SETTINGS: usize = 24;
pub(crate) const EXEMPT_KEY: usize = 16;
pub(crate) const SERVICE: usize = 32;
pub(crate) const ORIGINAL: usize = 36;

pub(crate) const ENTRY_DIRECT: u32 = 1;
pub(crate) const ENTRY_REFUSE_UDP: u32 = 2;

pub(crate) const SETTINGS_NETNS: u32 = 1;
pub(crate) const SETTINGS_MARK: u32 = 2;
pub(crate) const SETTINGS_CGROUPS: u32 = 4;
pub(crate) const SETTINGS_REFUSALS: u32 = 8;
pub(crate) const SETTINGS_UDP: u32 = 16;

/// Of `enum total`.
pub(crate) const TOTALS: usize = 8;

pub(crate) type Key = [u8; KEY];
pub(crate) type Value = [u8; ENTRY];

/// An IPv4-mapped IPv6 address is its IPv4 address.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn ip(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("a slice of this length")
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes(array(bytes))
}

pub(crate) fn key(address: SocketAddr, epoch: u8) -> Key {
    let mut key = [0; KEY];
    key[..16].copy_from_slice(&ip(address.ip()));
    key[16..18].copy_from_slice(&address.port().to_be_bytes());
    key[18] = epoch;
    key
}

pub(crate) fn address(key: &[u8]) -> SocketAddr {
    let ip = Ipv6Addr::from(array::<16>(&key[..16]));
    let port = u16::from_be_bytes(array(&key[16..18]));
    canonical(SocketAddr::new(ip.into(), port))
}

pub(crate) fn epoch(key: &Key) -> u8 {
    key[18]
}

/// The targets that fit this service address. IPv4 sockets cannot go to IPv6, so those are left
/// out; an IPv6 socket goes to IPv4 only where there is nothing else.
pub(crate) fn usable(service: SocketAddr, targets: &[Target]) -> Vec<Target> {
    let chosen = |v4: bool| {
        targets
            .iter()
            .map(|target| Target { address: canonical(target.address), weight: target.weight })
            .filter(|target| target.weight > 0 && target.address.is_ipv4() == v4)
            .take(TARGETS_MAX)
            .collect::<Vec<_>>()
    };
    let own = chosen(service.is_ipv4());
    if own.is_empty() && service.is_ipv6() {
        return chosen(true);
    }
    own
}

/// The map's value for an entry with these targets.
pub(crate) fn value(entry: &Entry, targets: &[Target]) -> Value {
    let mut value = [0; ENTRY];
    let mut flags = 0;
    if entry.unready == Unready::Direct {
        flags |= ENTRY_DIRECT;
    }
    if entry.refuse_udp {
        flags |= ENTRY_REFUSE_UDP;
    }
    value[4..8].copy_from_slice(&u32::to_ne_bytes(flags));
    let name = &entry.service[..entry.service.floor_char_boundary(SERVICE_MAX)];
    value[8..8 + name.len()].copy_from_slice(name.as_bytes());
    let mut total = 0u32;
    let slots = value[8 + SERVICE_MAX..].chunks_exact_mut(TARGET);
    for (slot, target) in slots.zip(targets) {
        total += u32::from(target.weight);
        slot[..16].copy_from_slice(&ip(target.address.ip()));
        slot[16..18].copy_from_slice(&target.address.port().to_be_bytes());
        slot[20..].copy_from_slice(&total.to_ne_bytes());
    }
    value[..4].copy_from_slice(&total.to_ne_bytes());
    value
}

/// An entry as it stands in the kernel.
pub(crate) fn entry(value: &Value) -> Entry {
    let flags = word(&value[4..8]);
    let name = value[8..8 + SERVICE_MAX].split(|byte| *byte == 0).next();
    let mut before = 0;
    let mut targets = Vec::new();
    for slot in value[8 + SERVICE_MAX..].chunks_exact(TARGET) {
        let upto = word(&slot[20..]);
        if upto > before {
            targets.push(Target {
                address: address(slot),
                weight: u16::try_from(upto - before).unwrap_or(u16::MAX),
            });
            before = upto;
        }
    }
    Entry {
        service: String::from_utf8_lossy(name.unwrap_or_default()).into_owned(),
        targets,
        unready: if flags & ENTRY_DIRECT == 0 { Unready::Refuse } else { Unready::Direct },
        refuse_udp: flags & ENTRY_REFUSE_UDP != 0,
    }
}

/// What holds for a whole epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) netns: u64,
    pub(crate) mark: u32,
    pub(crate) mask: u32,
    pub(crate) flags: u32,
}

impl Settings {
    pub(crate) fn bytes(self) -> [u8; SETTINGS] {
        let mut bytes = [0; SETTINGS];
        bytes[..8].copy_from_slice(&self.netns.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.mark.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.mask.to_ne_bytes());
        bytes[16..20].copy_from_slice(&self.flags.to_ne_bytes());
        bytes
    }

    pub(crate) fn of(bytes: &[u8; SETTINGS]) -> Settings {
        Settings {
            netns: u64::from_ne_bytes(array(&bytes[..8])),
            mark: word(&bytes[8..12]),
            mask: word(&bytes[12..16]),
            flags: word(&bytes[16..20]),
        }
    }
}

pub(crate) fn exempt_key(cgroup: u64, epoch: u8) -> [u8; EXEMPT_KEY] {
    let mut key = [0; EXEMPT_KEY];
    key[..8].copy_from_slice(&cgroup.to_ne_bytes());
    key[8..12].copy_from_slice(&u32::from(epoch).to_ne_bytes());
    key
}

pub(crate) fn exempt(key: &[u8; EXEMPT_KEY]) -> (u64, u8) {
    let epoch = word(&key[8..12]);
    (u64::from_ne_bytes(array(&key[..8])), u8::try_from(epoch).unwrap_or(u8::MAX))
}

/// `struct service`, summed over the processors.
pub(crate) fn service(values: &[[u8; SERVICE]]) -> [u64; 4] {
    let mut sums = [0u64; 4];
    for value in values {
        for (sum, bytes) in sums.iter_mut().zip(value.chunks_exact(8)) {
            *sum = sum.wrapping_add(u64::from_ne_bytes(array(bytes)));
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(address: &str, weight: u16) -> Target {
        Target { address: address.parse().unwrap(), weight }
    }

    #[test]
    fn an_entry_comes_back_from_its_bytes_as_it_went_in() {
        let entry_in = Entry {
            service: "shop/cart:80".to_owned(),
            targets: vec![target("10.0.0.1:20000", 3), target("[fd00::1]:20001", 7)],
            unready: Unready::Direct,
            refuse_udp: true,
        };
        assert_eq!(entry(&value(&entry_in, &entry_in.targets)), entry_in);
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_between_two_characters() {
        let entry_in = Entry {
            service: "é".repeat(SERVICE_MAX),
            targets: Vec::new(),
            unready: Unready::Refuse,
            refuse_udp: false,
        };
        assert_eq!(entry(&value(&entry_in, &[])).service, "é".repeat(SERVICE_MAX / 2));
    }

    #[test]
    fn a_mapped_address_has_the_key_of_its_ipv4_address() {
        let mapped = canonical("[::ffff:10.0.0.1]:80".parse().unwrap());
        assert_eq!(key(mapped, 1), key("10.0.0.1:80".parse().unwrap(), 1));
        assert_eq!(address(&key(mapped, 1)), mapped);
    }

    #[test]
    fn each_family_uses_the_targets_that_its_sockets_can_reach() {
        let (v4, v6) = (target("10.0.0.9:1", 1), target("[fd00::9]:1", 1));
        let both = [v6.clone(), v4.clone(), target("10.0.0.8:1", 0)];
        let service = |text: &str| text.parse().unwrap();
        assert_eq!(usable(service("10.1.0.1:80"), &both), both[1..2]);
        assert_eq!(usable(service("[fd01::1]:80"), &both), both[..1]);
        assert_eq!(usable(service("10.1.0.1:80"), &both[..1]), []);
        assert_eq!(usable(service("[fd01::1]:80"), &both[1..]), [v4]);
    }
}
