//! Which service ports need L7, and why (design decision 12): what the redirection sends to a
//! waypoint. Everything else goes its own way.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::model::{FilterKey, ResourceKey};

/// What the redirection does with connections to one service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redirection {
    /// The addresses that clients connect to: `clusterIPs` and `externalIPs`, in order.
    pub addresses: Vec<IpAddr>,
    /// Why it needs L7; none = it goes direct.
    pub reasons: Vec<Reason>,
    /// Why it goes direct whatever the reasons say.
    pub exception: Option<Exception>,
    /// What happens while no waypoint is ready.
    pub unready: Unready,
    /// Whether UDP to the same address and port is refused while the port needs L7: HTTP/3 would go
    /// past the waypoint.
    pub refuse_udp: bool,
}

impl Redirection {
    /// Whether connections go to a waypoint.
    pub fn applies(&self) -> bool {
        !self.reasons.is_empty() && self.exception.is_none()
    }
}

/// Why a service port needs L7.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// A route does more than send everything to the service itself.
    Route {
        /// The route.
        route: ResourceKey,
        /// Fields of its rules that say so: `matches`, `filters`, `timeouts`, `backendRefs`.
        fields: Vec<&'static str>,
    },
    /// A filter sees its requests.
    Filter {
        /// The filter.
        filter: FilterKey,
    },
    /// A filter that must not be skipped is refused: the waypoint refuses the requests.
    RefusedFilter {
        /// The filter.
        filter: ResourceKey,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route { route, fields } => write!(out, "{route}: its {}", fields.join(", ")),
            Self::Filter { filter } => write!(out, "{} {filter}", filter.kind),
            Self::RefusedFilter { filter } => {
                write!(out, "{filter} is refused, and must not be skipped")
            }
        }
    }
}

/// Why a service port is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Exception {
    /// It is not declared HTTP (`appProtocol`, or the port's name); nothing is guessed.
    NotHttp,
    /// The Service is that of a Gateway or a waypoint itself: it never has a waypoint.
    Waypoint,
    /// Clients connect to its endpoints' addresses: `clusterIP: None`.
    Headless,
    /// It stands for a name outside the cluster.
    ExternalName,
    /// It has no `clusterIP` and no `externalIPs`.
    NoAddress,
}

impl Exception {
    /// Whether no waypoint serves the port either.
    pub(crate) fn excludes_entrance(self) -> bool {
        matches!(self, Self::NotHttp | Self::Waypoint)
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NotHttp => "the port is not declared HTTP (`appProtocol`, or its name)",
            Self::Waypoint => "the Service is a waypoint's or a Gateway's own",
            Self::Headless => "the Service is headless: clients connect to its endpoints",
            Self::ExternalName => "the Service stands for a name outside the cluster",
            Self::NoAddress => "the Service has no `clusterIP` and no `externalIPs`",
        })
    }
}

/// What happens to a connection while no waypoint is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Unready {
    /// It is refused (ECONNREFUSED). The default: fails closed.
    #[default]
    Refuse,
    /// It goes direct, past filters and rules.
    Direct,
}

/// What our annotations begin with.
pub(crate) const PREFIX: &str = "redirect.waypoint.rs/";
/// [`Redirection::unready`] of a Service.
pub(crate) const UNREADY: &str = "redirect.waypoint.rs/unready";
/// [`Redirection::refuse_udp`] of a Service.
pub(crate) const UDP: &str = "redirect.waypoint.rs/udp";
/// The annotations of a Service with the values that each may have, the default first.
pub(crate) const ANNOTATIONS: [(&str, &[&str]); 2] =
    [(UNREADY, &["Refuse", "Direct"]), (UDP, &["Allow", "Refuse"])];

/// Marks the Service of a Gateway, whoever made it.
///
/// # Source
///
/// Gateway API, GEP-1762 (in-cluster Gateway deployments).
pub(crate) const GATEWAY_LABEL: &str = "gateway.networking.k8s.io/gateway-name";
