//! Addresses of services.

use std::net::IpAddr;

use super::Format;

/// An address of either family.
#[derive(Debug)]
pub(crate) struct Address;

impl Format for Address {
    const NAME: &'static str = "ip-address";
    const EXPECTED: &'static str = "an IPv4 or IPv6 address";
    type Value = IpAddr;

    fn parse(text: &str) -> Result<IpAddr, String> {
        text.parse().map_err(|_| format!("`{text}` is not an address"))
    }
}

/// What `clusterIP` of a Service says.
///
/// # Source
///
/// Kubernetes core/v1, `ServiceSpec.clusterIP`.
#[derive(Debug)]
pub(crate) struct ClusterIp;

/// The value of a `clusterIP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClusterAddress {
    /// Not given yet: the empty string.
    Unset,
    /// Headless: clients connect to the endpoints.
    None,
    At(IpAddr),
}

impl Format for ClusterIp {
    const NAME: &'static str = "cluster-ip";
    const EXPECTED: &'static str = "an IPv4 or IPv6 address, or `None` for a headless service";
    type Value = ClusterAddress;

    fn parse(text: &str) -> Result<ClusterAddress, String> {
        match text {
            "" => Ok(ClusterAddress::Unset),
            "None" => Ok(ClusterAddress::None),
            text => Address::parse(text).map(ClusterAddress::At),
        }
    }
}
