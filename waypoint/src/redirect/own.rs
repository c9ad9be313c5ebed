//! How the redirection tells connections of a waypoint from those of its clients: it never redirects
//! them, or they would come back for ever.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

/// The mark unless told otherwise. Of the bits that kube-proxy (0x4000, 0x8000), Istio (0xfff) and
/// Cilium (0x0f00 and what it adds to that) look at, none is set.
pub const MARK_DEFAULT: &str = "0x57500000";

/// The id of the topmost control group, as the kernel numbers them.
const ROOT_CGROUP: u64 = 1;

/// The mark (`SO_MARK`) of our own connections, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(Option<u32>);

impl Mark {
    /// The mark, if this process may set it: that takes CAP_NET_ADMIN, or CAP_NET_RAW since Linux
    /// 5.17.
    pub fn if_allowed(mark: u32) -> Self {
        let allowed = Socket::new(Domain::IPV4, Type::STREAM, None)
            .and_then(|socket| socket.set_mark(mark))
            .is_ok();
        Self(allowed.then_some(mark))
    }

    /// Its value.
    pub fn value(self) -> Option<u32> {
        self.0
    }

    /// Connects with the mark.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the half-made connection.
    pub async fn connect(self, address: SocketAddr) -> io::Result<TcpStream> {
        let Some(mark) = self.0 else { return TcpStream::connect(address).await };
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        SockRef::from(&socket).set_mark(mark)?;
        socket.connect(address).await
    }
}

/// The machine, as long as it runs: ids of control groups mean nothing elsewhere.
pub(super) fn machine() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// The id of this process's control group (v2), where no other process is in it and no group is below;
/// `None` otherwise: clients in the same group would never be redirected.
pub(super) fn cgroup() -> Option<u64> {
    let mount = waypoint_redirect::default_cgroup().ok()?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = mount.join(path.trim_start_matches('/'));
    let id = fs::metadata(&folder).ok()?.ino();
    let pid = std::process::id().to_string();
    let members = fs::read_to_string(folder.join("cgroup.procs")).ok()?;
    let below = fs::read_dir(&folder).ok()?.flatten();
    let alone = members.lines().all(|member| member == pid)
        && below.into_iter().all(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()));
    (id != ROOT_CGROUP && alone).then_some(id)
}
