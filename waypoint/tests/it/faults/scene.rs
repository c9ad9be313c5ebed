//! A waypoint with a service of HTTP/1 and one of HTTP/2, its origins, and what must be as before
//! when a row is over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;

use super::load::{Load, Progress};
use super::oracle::{Ledger, Report};
use super::witness::{Manner, Witness};
use crate::client::{filter_on, route};
use crate::faults::{Length, seed};
use crate::guests::Guest;
use crate::harness::{GATEWAY, PATIENCE, Waypoint, service_at};
use crate::origin::Speaks;

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holds {
    /// Descriptors, but for connections to endpoints: those are kept for a while.
    descriptors: u64,
    /// Tasks of listeners, connections and streams.
    tasks: u64,
    resident_kib: u64,
}

/// One row of the matrix in the making.
pub(super) struct Scene {
    pub(super) length: Length,
    pub(super) seed: u64,
    pub(super) ledger: Arc<Ledger>,
    dir: TempDir,
}

/// The two protocols, in the order of the services.
pub(super) const BOTH: [Speaks; 2] = [Speaks::Http1, Speaks::Http2];

impl Scene {
    pub(super) fn new(length: Length) -> Self {
        let dir = TempDir::new().expect("a folder");
        Self { length, seed: seed(), ledger: Arc::default(), dir }
    }

    /// An origin that records for this row.
    pub(super) async fn witness(&self, speaks: Speaks, manner: Manner) -> Witness {
        Witness::start(speaks, manner, self.seed, &self.ledger).await
    }

    /// Origins of both protocols that behave so.
    pub(super) async fn witnesses(&self, manner: Manner) -> [Witness; 2] {
        [self.witness(BOTH[0], manner).await, self.witness(BOTH[1], manner).await]
    }

    /// Resources: the endpoints of the service of HTTP/1 and of that of HTTP/2, and `extra` in each
    /// rule of their routes.
    pub(super) fn resources(&self, endpoints: [&[SocketAddr]; 2], extra: &str) -> String {
        let deny = "(drop (call $reply (i32.const 403) {no} {no} (i32.const 0) (i32.const 0)
                      (i32.const -1)))
                    (i32.const 1)";
        let module = Guest::on_request(deny).write(self.dir.path(), "deny");
        let mut resources = GATEWAY.to_owned();
        for (index, (name, protocol)) in
            [("one", "http"), ("two", "kubernetes.io/h2c")].into_iter().enumerate()
        {
            resources += &service_at(name, protocol, endpoints[index]);
            resources +=
                &(route(name, &format!("/{name}"), name).trim_end().to_owned() + extra + "\n");
        }
        resources += &route("denied", "/denied", "one");
        resources += &filter_on("deny", "kind: HTTPRoute, name: denied", &module, "");
        resources
    }

    /// Runs the load against a waypoint.
    pub(super) async fn load(
        &self,
        waypoint: &Waypoint,
        fault: impl AsyncFnOnce(&Progress),
    ) -> Report {
        let load = Load::new(waypoint.http(), self.seed, &self.ledger, self.length);
        load.run(fault).await
    }
}

impl Holds {
    pub(super) async fn of(waypoint: &Waypoint) -> Self {
        let pid = waypoint.child.id().expect("the process runs");
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("procfs").count() as u64;
        let endpoints = waypoint.page("/endpoints").await;
        let figures = endpoints.as_array().expect("a list").iter();
        let kept: u64 = figures.map(|one| one["connections"].as_u64().expect("a number")).sum();
        Self {
            descriptors: open.saturating_sub(kept),
            tasks: waypoint.series("waypoint_tasks").await.expect("a series"),
            resident_kib: waypoint.resident_kib(),
        }
    }

    /// What the process has grown by since, in KiB.
    pub(super) fn grown_kib(self, waypoint: &Waypoint) -> u64 {
        waypoint.resident_kib().saturating_sub(self.resident_kib)
    }

    /// Waits until the process holds no more descriptors and tasks than before and no request is
    /// outstanding; it may have grown by so much memory.
    pub(super) async fn again(self, waypoint: &Waypoint, grown_kib: u64) {
        let settled = async {
            loop {
                let now = Self::of(waypoint).await;
                let endpoints = waypoint.page("/endpoints").await;
                let mut figures = endpoints.as_array().expect("a list").iter();
                let quiet = figures.all(|one| one["outstanding"] == 0 && one["waiting"] == 0);
                if quiet && now.descriptors <= self.descriptors && now.tasks <= self.tasks {
                    return now;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let Ok(now) = timeout(PATIENCE, settled).await else {
            let (now, endpoints) = (Self::of(waypoint).await, waypoint.page("/endpoints").await);
            panic!("{self:?} became {now:?} with {endpoints:#}");
        };
        let grown = now.resident_kib.saturating_sub(self.resident_kib);
        assert!(grown <= grown_kib, "grown by {grown} KiB: {self:?} became {now:?}");
    }
}
