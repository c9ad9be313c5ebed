//! What the proxy does for its guests: tasks, logs, callouts and host functions.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Limited};
use tokio::time::timeout;
use tracing::level_filters::LevelFilter;
use waypoint_abi::{
    CallRefused, FilterSpec, Headers, Host, HttpCall, HttpCallAnswer, LogLevel, Status,
};
use waypoint_policies::ServicePortKey;

use super::{convert, verify_signature};
use crate::authorize::Permitted;
use crate::codec::body::Body;
use crate::drain::Tasks;
use crate::snapshot::{CalloutTargets, Services};
use crate::upstream::{Cluster, Deadlines};

/// Largest body of a callout's answer, in bytes; a larger one counts as failed (503).
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// The proxy, as its guests see it.
pub struct FilterHost {
    tasks: Tasks,
    targets: Arc<CalloutTargets>,
}

impl FilterHost {
    /// Callouts go to `targets` and nowhere else.
    pub fn new(tasks: Tasks, targets: Arc<CalloutTargets>) -> Self {
        Self { tasks, targets }
    }

    fn prepare(&self, owner: &str, call: &HttpCall) -> Result<(Cluster, Permitted), String> {
        let cluster = find(&self.targets.load(), owner, &call.upstream)?;
        let part = |name: &str| {
            let value = call.headers.get(name).and_then(|value| std::str::from_utf8(value).ok());
            value.ok_or_else(|| format!("the pseudo-header {name} is missing"))
        };
        let (method, path, authority) = (part(":method")?, part(":path")?, part(":authority")?);
        let uri = Uri::builder()
            .scheme("http")
            .authority(authority)
            .path_and_query(path)
            .build()
            .map_err(|error| format!("{authority}{path} is not a URI: {error}"))?;
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .body(Body::full(call.body.clone()))
            .map_err(|error| format!("the request cannot be made: {error}"))?;
        *request.headers_mut() = convert::header_map(&call.headers);
        Ok((cluster, Permitted::callout(request)))
    }
}

impl Host for FilterHost {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.tasks.spawn(task);
    }

    fn log(&self, filter: &FilterSpec, level: LogLevel, message: &str) {
        let name = filter.name.as_str();
        match level {
            LogLevel::Trace => tracing::trace!(target: "filter", filter = name, "{message}"),
            LogLevel::Debug => tracing::debug!(target: "filter", filter = name, "{message}"),
            LogLevel::Info => tracing::info!(target: "filter", filter = name, "{message}"),
            LogLevel::Warn => tracing::warn!(target: "filter", filter = name, "{message}"),
            LogLevel::Error | LogLevel::Critical => {
                tracing::error!(target: "filter", filter = name, "{message}");
            }
        }
    }

    fn log_level(&self) -> LogLevel {
        match LevelFilter::current() {
            LevelFilter::TRACE => LogLevel::Trace,
            LevelFilter::DEBUG => LogLevel::Debug,
            LevelFilter::INFO => LogLevel::Info,
            LevelFilter::WARN => LogLevel::Warn,
            _ => LogLevel::Error,
        }
    }

    fn http_call(
        &self,
        filter: &FilterSpec,
        call: HttpCall,
    ) -> Result<Pin<Box<dyn Future<Output = HttpCallAnswer> + Send>>, CallRefused> {
        let (cluster, request) =
            self.prepare(&filter.owner, &call).map_err(|reason| CallRefused { reason })?;
        Ok(Box::pin(async move {
            match timeout(call.timeout, exchange(cluster, request)).await {
                Ok(Some(answer)) => answer,
                Ok(None) => failure("503", "upstream connect error or reset"),
                Err(_) => failure("504", "upstream request timeout"),
            }
        }))
    }

    fn foreign(
        &self,
        _filter: &FilterSpec,
        name: &str,
        arguments: &[u8],
    ) -> Option<Result<Vec<u8>, Status>> {
        (name == "verify_signature").then(|| verify_signature::call(arguments))
    }
}

/// Sends a callout and reads its whole answer; `None` when it failed on the way.
async fn exchange(cluster: Cluster, request: Permitted) -> Option<HttpCallAnswer> {
    let (response, _) = cluster.send(request, Deadlines::default()).await.ok()?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.ok()?;
    let trailers = body.trailers().map(convert::trailers).unwrap_or_default();
    Some(HttpCallAnswer {
        headers: convert::response_head(&parts),
        body: body.to_bytes(),
        trailers,
    })
}

/// A callout that fails looks like a response, as on Envoy.
fn failure(status: &'static str, text: &'static str) -> HttpCallAnswer {
    let mut headers = Headers::with_capacity(3);
    headers.push(":status", status);
    headers.push("content-length", text.len().to_string());
    headers.push("content-type", "text/plain");
    HttpCallAnswer { headers, body: Bytes::from_static(text.as_bytes()), trailers: Headers::new() }
}

/// Finds the service port that a callout names, in the filter's own namespace only.
fn find(services: &Services, owner: &str, upstream: &str) -> Result<Cluster, String> {
    let (name, namespace, port) = parse_upstream(upstream, owner);
    if namespace != owner {
        return Err(format!("{upstream}: a filter of {owner} may call services of {owner} only"));
    }
    let mut candidates = services.iter().filter(|(key, _)| {
        key.namespace == namespace && key.name == name && port.is_none_or(|port| port == key.port)
    });
    match (candidates.next(), candidates.next()) {
        (Some((_, service)), None) => Ok(service.cluster.clone()),
        (Some(_), Some(_)) => Err(format!("{upstream}: the service has several ports, name one")),
        (None, _) => Err(format!("{upstream} is unknown; known: {}", known(services, owner))),
    }
}

/// `NAME[.NAMESPACE[.svc…]][:PORT]`, or Envoy's cluster name `outbound|PORT||HOST`.
fn parse_upstream<'a>(upstream: &'a str, owner: &'a str) -> (&'a str, &'a str, Option<u16>) {
    let (host, port) = match upstream.strip_prefix("outbound|") {
        Some(rest) => {
            let port = rest.split('|').next().and_then(|port| port.parse().ok());
            (rest.rsplit('|').next().unwrap_or(rest), port)
        }
        None => match upstream.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (upstream, None),
        },
    };
    let mut labels = host.split('.');
    (labels.next().unwrap_or(host), labels.next().unwrap_or(owner), port)
}

fn known(services: &Services, owner: &str) -> String {
    let mut names: Vec<String> = services
        .keys()
        .filter(|key| key.namespace == owner)
        .map(|ServicePortKey { namespace, name, port }| format!("{name}.{namespace}:{port}"))
        .collect();
    names.sort();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_may_be_named_in_every_form_that_filters_use() {
        for (upstream, want) in [
            ("keys", ("keys", "demo", None)),
            ("keys:8080", ("keys", "demo", Some(8080))),
            ("keys.other:80", ("keys", "other", Some(80))),
            ("keys.demo.svc.cluster.local:80", ("keys", "demo", Some(80))),
            ("outbound|8080||keys.demo.svc.cluster.local", ("keys", "demo", Some(8080))),
        ] {
            assert_eq!(parse_upstream(upstream, "demo"), want, "{upstream}");
        }
    }
}
