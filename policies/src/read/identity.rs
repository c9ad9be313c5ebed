//! What a document is: its kind and its name.

use std::sync::Arc;

use super::Document;
use super::node::{Node, NodeKind};
use super::walk::one_of;
use crate::model::ResourceKey;
use crate::nearest::nearest;
use crate::problem::{Note, Problem};
use crate::resource::{KINDS, KindInfo, Origin};
use crate::source::Span;
use crate::text::{Format, ObjectName};

/// What a document turned out to be.
pub(crate) enum Identity {
    /// One of the kinds that we read.
    Ours(&'static KindInfo, ResourceKey),
    /// A list of resources.
    List(Vec<Arc<Node>>),
    /// A known kind that is not for a proxy.
    Skip(Note),
    /// It does not say what it is, or says something unknown; the problem is reported.
    Unknown,
}

/// Kinds that the cluster's own files have and a proxy does not need, by group.
const SKIPPED: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "Binding",
            "Endpoints",
            "Event",
            "LimitRange",
            "Node",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "ServiceAccount",
        ],
    ),
    (
        "admissionregistration.k8s.io",
        &[
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
    ),
    ("apiextensions.k8s.io", &["CustomResourceDefinition"]),
    ("apps", &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("autoscaling", &["HorizontalPodAutoscaler"]),
    ("batch", &["CronJob", "Job"]),
    ("certificates.k8s.io", &["CertificateSigningRequest"]),
    ("coordination.k8s.io", &["Lease"]),
    ("gateway.networking.k8s.io", &["GatewayClass"]),
    (
        "networking.istio.io",
        &["Gateway", "ProxyConfig", "Sidecar", "WorkloadEntry", "WorkloadGroup"],
    ),
    ("networking.k8s.io", &["Ingress", "IngressClass", "NetworkPolicy"]),
    ("node.k8s.io", &["RuntimeClass"]),
    ("policy", &["PodDisruptionBudget"]),
    ("rbac.authorization.k8s.io", &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]),
    ("scheduling.k8s.io", &["PriorityClass"]),
    ("security.istio.io", &["PeerAuthentication"]),
    ("storage.k8s.io", &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment"]),
    ("telemetry.istio.io", &["Telemetry"]),
];

/// Kinds that mean something to a proxy, and that this one does not read yet: to skip them in
/// silence would leave out what their author relies on.
const UNSUPPORTED: &[(&str, &[&str])] = &[
    ("extensions.istio.io", &["TrafficExtension"]),
    (
        "gateway.networking.k8s.io",
        &[
            "ListenerSet",
            "TCPRoute",
            "TLSRoute",
            "UDPRoute",
            "XBackendTrafficPolicy",
            "XListenerSet",
        ],
    ),
    ("networking.istio.io", &["DestinationRule", "EnvoyFilter", "ServiceEntry", "VirtualService"]),
    ("security.istio.io", &["AuthorizationPolicy", "RequestAuthentication"]),
];

/// Tells what a document is; problems are what keeps it from being told.
pub(crate) fn identify(origin: &Origin, problems: &mut Vec<Problem>) -> Identity {
    let node = &origin.node;
    if node.entries().is_none() {
        let message = format!("a resource cannot be {}", node.describe());
        let problem = Problem::error("wrong-type", &origin.at(""), message);
        problems.push(problem.expected("a mapping with `apiVersion`, `kind` and `metadata`"));
        return Identity::Unknown;
    }
    let version = required(origin, node, "apiVersion", problems);
    let kind = required(origin, node, "kind", problems);
    let (Some(version), Some(kind)) = (version, kind) else { return Identity::Unknown };
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if let (("v1", "List"), Some(items)) = ((version, kind), node.get("items")) {
        return match items.items() {
            Some(items) => Identity::List(items.to_vec()),
            None => {
                problems.push(
                    Problem::error(
                        "wrong-type",
                        &origin.at("items"),
                        format!("this is {}", items.describe()),
                    )
                    .expected("a list"),
                );
                Identity::Unknown
            }
        };
    }
    if has(SKIPPED, group, kind) {
        return Identity::Skip(skipped(origin, kind));
    }
    if has(UNSUPPORTED, group, kind) {
        problems.push(Problem::error(
            "unsupported",
            &origin.at("kind"),
            format!("`{kind}` is not supported yet"),
        ));
        return Identity::Unknown;
    }
    match KINDS.iter().find(|known| known.kind == kind) {
        Some(known) if known.api_versions().any(|known| known == version) => {
            match name(origin, kind, problems) {
                Some(key) => Identity::Ours(known, key),
                None => Identity::Unknown,
            }
        }
        Some(known) => {
            let versions: Vec<String> = known.api_versions().collect();
            let versions = || versions.iter().map(String::as_str);
            problems.push(unknown(origin, "apiVersion", version, versions(), one_of(versions())));
            Identity::Unknown
        }
        None => {
            unknown_kind(origin, version, kind, group, problems);
            Identity::Unknown
        }
    }
}

fn unknown_kind(
    origin: &Origin,
    version: &str,
    kind: &str,
    group: &str,
    problems: &mut Vec<Problem>,
) {
    if let Some((right, _)) =
        SKIPPED.iter().chain(UNSUPPORTED).find(|(_, kinds)| kinds.contains(&kind))
    {
        let expected =
            if right.is_empty() { "`v1`".to_owned() } else { format!("`{right}/VERSION`") };
        let mut problem = unknown(origin, "apiVersion", version, [].into_iter(), expected);
        let number = version.rsplit('/').next().unwrap_or_default();
        problem.nearest = nearest(group, [*right]).map(|group| format!("{group}/{number}"));
        problems.push(problem);
        return;
    }
    let ours = || KINDS.iter().map(|known| known.kind);
    let same_group = KINDS.iter().filter(|known| known.group == group).map(|known| known.kind);
    let others = SKIPPED.iter().chain(UNSUPPORTED).flat_map(|(_, kinds)| kinds.iter().copied());
    let mut problem = unknown(origin, "kind", kind, ours(), one_of(ours()));
    let near = nearest(kind, same_group).or(nearest(kind, ours().chain(others)));
    problem.nearest = near.map(str::to_owned);
    problems.push(problem);
}

fn unknown<'a>(
    origin: &Origin,
    field: &str,
    word: &str,
    known: impl Iterator<Item = &'a str>,
    expected: String,
) -> Problem {
    let code = if field == "kind" { "unknown-kind" } else { "unknown-api-version" };
    Problem::error(code, &origin.at(field), format!("unknown {field} `{word}`"))
        .expected(expected)
        .nearest(nearest(word, known))
}

fn skipped(origin: &Origin, kind: &str) -> Note {
    let name = origin.node.get("metadata").and_then(|metadata| metadata.get("name"));
    let name = name.and_then(|name| name.text()).unwrap_or_default();
    Note::new(&origin.at("kind"), format!("{kind} {name} is not for a proxy; skipped"), None)
}

/// The text of a field that must be there.
fn required<'a>(
    origin: &Origin,
    node: &'a Node,
    field: &str,
    problems: &mut Vec<Problem>,
) -> Option<&'a str> {
    if let Some(text) = node.get(field).and_then(|value| value.text()) {
        return Some(text);
    }
    let entry = node.entry(field).filter(|entry| !entry.value.is_null());
    problems.push(match entry {
        Some(entry) => {
            let message = format!("this is {}", entry.value.describe());
            Problem::error("wrong-type", &origin.at(field), message).expected("text")
        }
        None => {
            // Another case or a slip of the pen: say which key was meant.
            let keys = node.entries().unwrap_or_default().iter().map(|entry| entry.key.as_str());
            let near = nearest(field, keys).and_then(|key| node.entry(key));
            let span = near
                .or(node.entries().and_then(|entries| entries.first()))
                .map_or(node.span, |entry| entry.span);
            let message = format!("the field `{field}` is missing");
            let problem = Problem::error("missing-field", &origin.place(span), message);
            problem.nearest(near.map(|_| field))
        }
    });
    None
}

fn name(origin: &Origin, kind: &str, problems: &mut Vec<Problem>) -> Option<ResourceKey> {
    let Some(metadata) = origin.node.get("metadata") else {
        let message = "the field `metadata` is missing";
        problems.push(Problem::error("missing-field", &origin.at("kind"), message));
        return None;
    };
    if metadata.entries().is_none() {
        let message = format!("this is {}", metadata.describe());
        problems.push(
            Problem::error("wrong-type", &origin.at("metadata"), message).expected("a mapping"),
        );
        return None;
    }
    let within = Origin { source: Arc::clone(&origin.source), node: Arc::clone(metadata) };
    let name = required(&within, metadata, "name", problems)?;
    let namespace = match metadata.get("namespace").filter(|namespace| !namespace.is_null()) {
        None => "default",
        Some(_) => required(&within, metadata, "namespace", problems)?,
    };
    for (field, text) in [("name", name), ("namespace", namespace)] {
        if let Err(message) = ObjectName::parse(text) {
            problems.push(
                Problem::error("format", &within.at(field), message).expected(ObjectName::EXPECTED),
            );
            return None;
        }
    }
    Some(ResourceKey {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

fn has(table: &[(&str, &[&str])], group: &str, kind: &str) -> bool {
    table.iter().any(|(known, kinds)| *known == group && kinds.contains(&kind))
}

/// What must not be shown: the values of Secrets, and of whatever may be one.
pub(crate) fn hidden(text: &str, documents: &[Document]) -> Vec<Span> {
    let mut spans = Vec::new();
    for document in documents {
        match &document.root {
            Some(root) => hide(root, &mut spans),
            // What does not parse cannot be told apart: all values go.
            None if !document.complete && text.contains("Secret") => return after_keys(text),
            None => {}
        }
    }
    // Aliases give the same place many times, and every letter that is shown is looked up here.
    spans.sort_unstable();
    spans.dedup();
    spans
}

/// Fields of a Secret that may be shown.
const SHOWN: [&str; 5] = ["apiVersion", "kind", "type", "immutable", "items"];

fn hide(node: &Node, spans: &mut Vec<Span>) {
    let kind = node.get("kind").and_then(|kind| kind.text()).unwrap_or_default();
    let items = node.get("items").and_then(|items| items.items()).unwrap_or_default();
    items.iter().for_each(|item| hide(item, spans));
    let harmless = kind != "Secret" && KINDS.iter().any(|known| known.kind == kind);
    if harmless || kind == "List" {
        return;
    }
    for entry in node.entries().unwrap_or_default() {
        match entry.key.as_str() {
            // The last applied configuration holds the whole Secret once more.
            "metadata" => {
                entry.value.get("annotations").into_iter().for_each(|node| hide_values(node, spans))
            }
            key if SHOWN.contains(&key) => {}
            _ => hide_values(&entry.value, spans),
        }
    }
}

fn hide_values(node: &Node, spans: &mut Vec<Span>) {
    match &node.kind {
        NodeKind::Scalar(_) => spans.push(node.span),
        NodeKind::List(items) => items.iter().for_each(|item| hide_values(item, spans)),
        NodeKind::Map(entries) => entries.iter().for_each(|entry| hide_values(&entry.value, spans)),
    }
}

/// Everything after the first colon of each line, and lines without one.
fn after_keys(text: &str) -> Vec<Span> {
    let span = |(number, line): (u32, &str)| {
        let key = line.split_once(':').map_or(0, |(key, _)| key.chars().count() + 1);
        let column = u32::try_from(key).unwrap_or(u32::MAX - 1).saturating_add(1);
        Span { line: number, column, end_line: number, end_column: u32::MAX }
    };
    (1..).zip(text.lines()).map(span).collect()
}
