//! The operator's ports: admin, metrics, health.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::sockets::Addresses;
use super::takeover::Inherited;
use super::{Settings, StartError};
use crate::admin::{self, Admin, Health};
use crate::drain::{Closing, Tasks};
use crate::metrics::Metrics;
use crate::overload::Clients;

/// The operator's sockets, bound before anything is served.
pub(super) struct OperatorPorts {
    admin: TcpListener,
    stats: TcpListener,
    health: TcpListener,
}

/// What the metrics show of the moment.
pub(super) struct Traffic {
    pub(super) clients: Arc<Clients>,
    pub(super) tasks: Tasks,
}

impl OperatorPorts {
    /// Binds where the operator says, or takes what a predecessor has given.
    pub(super) async fn bind(
        settings: &Settings,
        addresses: &Addresses,
        inherited: &mut Inherited,
    ) -> Result<Self, StartError> {
        let mut bind = async |name: &str, default: SocketAddr| {
            let address = settings.bind.get(name).copied().unwrap_or(default);
            let failed = |source| StartError::Bind { name: name.to_owned(), address, source };
            let listener = match inherited.take(name, address) {
                Some(socket) => Ok(socket),
                None => TcpListener::bind(address).await,
            };
            let listener = listener.map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            addresses.set(name, address, &listener).map_err(failed)?;
            Ok::<_, StartError>(listener)
        };
        Ok(Self {
            admin: bind("admin", settings.admin).await?,
            stats: bind("stats", settings.stats).await?,
            health: bind("health", settings.health).await?,
        })
    }

    /// Answers on all of them until the process closes.
    pub(super) fn serve(
        self,
        admin: Arc<Admin>,
        metrics: Arc<Metrics>,
        health: Health,
        traffic: Traffic,
        ending: &Closing,
        tasks: &Tasks,
    ) {
        let Traffic { clients, tasks: serving } = traffic;
        let answer = move |request| {
            let admin = Arc::clone(&admin);
            async move { admin.answer(&request).await }
        };
        tasks.spawn(admin::serve(self.admin, answer, ending.clone(), tasks.clone()));
        let answer = move |request| {
            metrics.connections.set(clients.open().into());
            metrics.running.set(clients.running().into());
            metrics.tasks.set(i64::try_from(serving.running()).unwrap_or(i64::MAX));
            std::future::ready(admin::stats(&metrics, &request))
        };
        tasks.spawn(admin::serve(self.stats, answer, ending.clone(), tasks.clone()));
        let answer = move |request| std::future::ready(admin::health(&health, &request));
        tasks.spawn(admin::serve(self.health, answer, ending.clone(), tasks.clone()));
    }
}
