//! Resources in, a checked model and decisions out: no socket, no clock, no runtime.
//!
//! ```text
//! files ─read─► Resources ─merge─► Resources ─check─► Model ─select─► Rule
//! ```
//! [`read`] finds every mistake within a resource, [`check`] those between resources; [`merge`]
//! keeps the last good version of what was refused.

#![deny(missing_docs)]

mod check;
mod locality;
mod merge;
pub mod model;
mod nearest;
mod outside;
mod pem;
pub mod ports;
mod problem;
mod read;
mod redirect;
mod resource;
pub mod route;
mod source;
mod status;
mod text;

pub use check::{Checked, Denied, check, rank};
pub use locality::{Distribution, Endpoint, EndpointHost, Place};
pub use merge::{fall_back, merge};
pub use model::*;
pub use ports::Numbering;
pub use problem::{Note, Problem, Severity, render};
pub use read::schema::schemas;
pub use read::{DEPTH_MAX, FILE_BYTES_MAX, NODES_MAX, PROBLEMS_MAX, Reading, read};
pub use redirect::{Exception, Reason, Redirection, Unready};
pub use resource::Resources;
pub use route::{
    Allowed, Asked, Cors, CrossOrigin, Facts, OriginMatch, PathEdit, Redirect, Rewrite, RouteTable,
    Selection,
};
pub use source::SourceFile;
pub use status::{
    AncestorStatus, CONTROLLER_NAME, Condition, ListenerStatus, ParentStatus, Reference,
    RouteGroupKind, Status,
};
