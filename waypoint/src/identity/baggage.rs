//! `baggage`: what a mesh's proxies say of a workload is not for the workload's own clients to say.
//!
//! A ztunnel tells a waypoint in this header which workload it speaks for. Applications use the same
//! header for entries of their own, which pass.

use http::header::{HeaderMap, HeaderName, HeaderValue};

pub(super) const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// Removes the members that describe a workload.
///
/// # Source
///
/// W3C Baggage, section 3.3: members are separated by commas, and none has one within. The names
/// are those of Istio's ztunnel and proxies, which are OpenTelemetry's for resources.
pub(super) fn remove_workload(headers: &mut HeaderMap) {
    let members = || headers.get_all(BAGGAGE).iter().flat_map(members);
    if !members().any(describes_workload) {
        return;
    }
    let kept: Vec<&[u8]> = members().filter(|member| !describes_workload(member)).collect();
    let kept = kept.join(b",".as_slice());
    headers.remove(BAGGAGE);
    // Parts of a value are one.
    if let (false, Ok(value)) = (kept.is_empty(), HeaderValue::from_bytes(&kept)) {
        headers.insert(BAGGAGE, value);
    }
}

fn members(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether a member's name is one of those by which proxies describe workloads. Nobody says how they
/// must be written, so that case does not count.
fn describes_workload(member: &[u8]) -> bool {
    let end = member.iter().position(|byte| matches!(byte, b'=' | b';')).unwrap_or(member.len());
    let name = member[..end].trim_ascii().to_ascii_lowercase();
    name.starts_with(b"k8s.")
        || name.starts_with(b"cloud.")
        || matches!(&name[..], b"service.name" | b"service.version" | b"app.name" | b"app.version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_describe_a_workload_go_and_those_of_applications_stay() {
        let ztunnels = "k8s.cluster.name=K,k8s.namespace.name=bank,k8s.deployment.name=vault,\
                        service.name=vault,service.version=v1,cloud.region=r,\
                        cloud.availability_zone=z";
        let cases: [(&[&str], Option<&str>); 8] = [
            (&[], None),
            (&["userId=alice;p=1 , tenant=a%2Cb"], Some("userId=alice;p=1 , tenant=a%2Cb")),
            (&[ztunnels], None),
            (&[ztunnels, "tenant=a"], Some("tenant=a")),
            (&["tenant=a, K8S.Pod.Name =x;p, user=b"], Some("tenant=a,user=b")),
            (&["a=b", "\tservice.name\t=x", "c=d"], Some("a=b,c=d")),
            (&["service.name;p=1"], None),
            (&["service.names=x,k8s=y"], Some("service.names=x,k8s=y")),
        ];
        for (values, want) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(BAGGAGE, HeaderValue::from_str(value).unwrap());
            }
            remove_workload(&mut headers);
            let now = headers.get_all(BAGGAGE).iter().map(|value| value.to_str().unwrap());
            assert_eq!(now.collect::<Vec<_>>(), Vec::from_iter(want), "{values:?}");
        }
    }
}
