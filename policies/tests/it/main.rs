//! Tests of the public surface, one file per subject.

#![allow(clippy::unwrap_used, reason = "tests")]

mod backend_tls;
mod clients;
mod diagnostics;
mod filters;
mod grants;
mod grpc_route;
mod merging;
mod oracle;
mod port_table;
mod redirect;
mod robustness;
mod routing;
mod schema;
mod statuses;
mod support;
