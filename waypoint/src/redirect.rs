//! The redirection, seen from this side of the kernel: what a waypoint tells the node agents, and the
//! agent itself.
//!
//! ```text
//! waypoint: bind ─► Publisher ──► FOLDER/waypoints/NAME.json ──► agent ─► kernel: (address, port) → waypoint
//!                             ◄── FOLDER/agents/NAME.json    ◄──┘
//! ```
//! The kernel's part, and the program in it, are crate `waypoint-redirect`; which service ports need
//! L7 is decided by `waypoint-policies` (design decisions 11 and 12).

mod agent;
pub(crate) mod demo;
mod desired;
mod figures;
mod folder;
mod own;
mod probe;
mod publisher;

pub use agent::{AgentError, AgentSettings, run};
pub use demo::Network;
pub(crate) use figures::verdicts;
pub use folder::{Folder, FolderError, is_name};
pub use own::{MARK_DEFAULT, Mark};
pub use publisher::{Publication, PublishError, Publisher};
