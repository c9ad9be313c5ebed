//! Puts questions to the resolver.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// What came of asking for a name.
#[derive(Debug)]
pub(super) enum Answer {
    /// It has addresses, at least one.
    Addresses { addresses: Vec<IpAddr>, ttl: Duration },
    /// It does not exist, or has none.
    Nothing { ttl: Duration },
    /// Nobody can tell.
    Failure,
}

/// Whoever is asked. Its own cache is off: what is known is kept with the name.
pub(super) struct Resolver {
    address: Option<SocketAddr>,
    question: Duration,
    asked: OnceCell<TokioResolver>,
}

impl Resolver {
    pub(super) fn new(address: Option<SocketAddr>, question: Duration) -> Self {
        Self { address, question, asked: OnceCell::new() }
    }

    /// Asks for the addresses of a name: in `/etc/hosts`, then of the name server.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the question is forgotten.
    pub(super) async fn ask(&self, name: &str) -> Answer {
        let resolver = match self.asked.get_or_try_init(|| async { build(self.address) }).await {
            Ok(resolver) => resolver,
            Err(error) => {
                tracing::warn!(%error, "names cannot be resolved: there is no name server");
                return Answer::Failure;
            }
        };
        // A name of a Service is whole: nothing is searched for below it.
        let whole = format!("{}.", name.trim_end_matches('.'));
        let both = async {
            tokio::join!(
                resolver.lookup(whole.as_str(), RecordType::A),
                resolver.lookup(whole.as_str(), RecordType::AAAA),
            )
        };
        match timeout(self.question, both).await {
            Ok((v4, v6)) => together(of(v4), of(v6)),
            Err(_elapsed) => Answer::Failure,
        }
    }
}

fn build(address: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let mut builder = match address {
        None => TokioResolver::builder_tokio()?,
        Some(address) => {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            let config = ResolverConfig::from_name_servers(vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    builder.options_mut().cache_size = 0;
    builder.build()
}

fn of(lookup: Result<Lookup, NetError>) -> Answer {
    match lookup {
        Ok(lookup) => {
            let answers = lookup.answers();
            // Those of aliases on the way count too.
            let ttl = answers.iter().map(|record| record.ttl).min().unwrap_or(0);
            let addresses: Vec<_> =
                answers.iter().filter_map(|record| record.data.ip_addr()).collect();
            let ttl = Duration::from_secs(ttl.into());
            match addresses.is_empty() {
                true => Answer::Nothing { ttl },
                false => Answer::Addresses { addresses, ttl },
            }
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
        {
            Answer::Nothing { ttl: Duration::from_secs(none.negative_ttl.unwrap_or(0).into()) }
        }
        Err(error) => {
            tracing::debug!(%error, "a question was not answered");
            Answer::Failure
        }
    }
}

/// One answer of two. Addresses of one family are enough; that there is none at all is believed
/// only if both families say so.
fn together(v4: Answer, v6: Answer) -> Answer {
    use Answer::{Addresses, Failure, Nothing};
    match (v4, v6) {
        (Addresses { mut addresses, ttl }, Addresses { addresses: more, ttl: other }) => {
            addresses.extend(more);
            Addresses { addresses, ttl: ttl.min(other) }
        }
        (Addresses { addresses, ttl }, Nothing { .. } | Failure)
        | (Nothing { .. } | Failure, Addresses { addresses, ttl }) => Addresses { addresses, ttl },
        (Nothing { ttl }, Nothing { ttl: other }) => Nothing { ttl: ttl.min(other) },
        (Failure, Nothing { .. } | Failure) | (Nothing { .. }, Failure) => Failure,
    }
}
