//! What the admin port shows, as JSON. Secrets' values and filter configurations are never shown.

use std::net::SocketAddr;

use serde_json::{Value, json};
use waypoint_policies::{
    Backend, Endpoint, EntranceKind, FilterKey, ModuleSource, Rule, ServicePortKey,
};

use super::Admin;
use crate::metrics::FilterSample;
use crate::snapshot::{FilterSlot, ServedEntrance, Snapshot};
use crate::upstream::Upstreams;

/// The last build and the resources' statuses.
pub(super) fn config(admin: &Admin) -> Value {
    let snapshot = admin.current.load();
    let statuses: Vec<Value> = snapshot
        .model
        .statuses
        .iter()
        .map(|(resource, status)| json!({"resource": resource, "status": status}))
        .collect();
    json!({ "lastReload": *admin.status.read(), "statuses": statuses })
}

/// What is served.
pub(super) fn model(admin: &Admin) -> Value {
    let snapshot = admin.current.load();
    let mut entrances: Vec<&ServedEntrance> =
        snapshot.entrances.values().map(AsRef::as_ref).collect();
    entrances.sort_by(|one, other| one.model.name.cmp(&other.model.name));
    let services: Vec<Value> = snapshot
        .model
        .services
        .values()
        .map(|service| {
            json!({
                "service": service.key.to_string(),
                "protocol": service.protocol,
                "tls": service.tls.as_ref().map(|tls| match tls {
                    Ok(tls) => json!({"policy": tls.policy.to_string(), "hostname": tls.hostname}),
                    Err(reason) => json!({"refused": reason}),
                }),
                "endpoints": service.endpoints.iter().map(Endpoint::name).collect::<Vec<_>>(),
                "groups": groups(&snapshot, &service.key),
                "filters": names(&service.filters),
            })
        })
        .collect();
    json!({
        "snapshot": snapshot.number,
        "entrances": entrances.into_iter().map(entrance).collect::<Vec<_>>(),
        "services": services,
        "filters": snapshot.filters.values().map(filter).collect::<Vec<_>>(),
        "denied": denied(&snapshot),
    })
}

/// The endpoints of a service, the preferred group first.
fn groups(snapshot: &Snapshot, key: &ServicePortKey) -> Vec<Vec<SocketAddr>> {
    snapshot.services.get(key).map_or_else(Vec::new, |served| served.cluster.groups())
}

fn entrance(entrance: &ServedEntrance) -> Value {
    let model = &entrance.model;
    json!({
        "name": &*model.name,
        "port": model.port,
        "service": match &model.kind {
            EntranceKind::Gateway => Value::Null,
            EntranceKind::Service(key) => json!(key.to_string()),
        },
        "https": model.tls.is_some(),
        "filters": names(&model.filters),
        "routes": model.routes.rules().map(|one| rule(one)).collect::<Vec<_>>(),
        "deniedBy": entrance.denied_by,
    })
}

fn rule(rule: &Rule) -> Value {
    json!({
        "id": &*rule.id,
        "filters": names(&rule.filters),
        "backends": rule.backends.iter().map(backend).collect::<Vec<_>>(),
        "requestTimeoutMs": rule.request_timeout.map(|timeout| timeout.as_millis()),
        "backendTimeoutMs": rule.backend_timeout.map(|timeout| timeout.as_millis()),
    })
}

fn backend(backend: &Backend) -> Value {
    match &backend.target {
        Ok(key) => json!({"service": key.to_string(), "weight": backend.weight}),
        Err(fault) => json!({"fault": fault, "weight": backend.weight}),
    }
}

fn filter(slot: &FilterSlot) -> Value {
    let key = slot.key();
    match slot {
        FilterSlot::Denied { open, .. } => {
            json!({"filter": key.to_string(), "state": "denied", "open": open})
        }
        FilterSlot::Active(active) => json!({
            "filter": key.to_string(),
            "state": "active",
            "generation": active.running.number,
            "module": match &active.config.module {
                ModuleSource::Builtin(name) => format!("builtin://{name}"),
                ModuleSource::File(path) => format!("file://{path}"),
                ModuleSource::Http(url) => url.clone(),
            },
            "phase": active.config.phase,
            "priority": active.config.priority,
            "failurePolicy": active.config.failure_policy,
            "isolation": active.config.isolation,
            "bodies": active.config.bodies,
        }),
    }
}

fn denied(snapshot: &Snapshot) -> Vec<Value> {
    let routes = snapshot.denied_routes.iter();
    let services = snapshot.denied_services.iter();
    routes
        .map(|(route, by)| json!({"route": route.to_string(), "by": by}))
        .chain(services.map(|(key, by)| json!({"service": key.to_string(), "by": by})))
        .collect()
}

fn names(keys: &[FilterKey]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}

/// Cost and state of each filter.
pub(super) fn filters(samples: &[FilterSample]) -> Value {
    let one = |sample: &FilterSample| {
        let stats = &sample.stats;
        json!({
            "filter": sample.name,
            "generation": sample.generation,
            "liveGenerations": sample.live_generations,
            "calls": stats.calls,
            "guestSeconds": stats.guest_time.as_secs_f64(),
            "traps": stats.traps,
            "deadlines": stats.deadlines,
            "vms": stats.vms,
            "vmStarts": stats.vm_starts,
            "memoryBytes": stats.memory_bytes,
            "streams": stats.streams,
            "callouts": stats.callouts,
            "verdicts": {
                "continue": stats.verdicts.continued,
                "pause": stats.verdicts.paused,
                "reply": stats.verdicts.replied,
                "reset": stats.verdicts.reset,
            },
        })
    };
    samples.iter().map(one).collect()
}

/// State of each endpoint.
pub(super) fn endpoints(upstreams: &Upstreams) -> Value {
    let mut figures = upstreams.figures();
    figures.sort_by_key(|figures| figures.address);
    figures
        .into_iter()
        .map(|figures| {
            json!({
                "address": figures.address,
                "tls": figures.tls,
                "tlsFailure": figures.tls_failure,
                "failures": figures.failures,
                "ejectedMs": figures.ejected_for.map(|left| left.as_millis()),
                "outstanding": figures.outstanding,
                "connections": figures.connections,
                "idle": figures.idle,
                "waiting": figures.waiting,
            })
        })
        .collect()
}
