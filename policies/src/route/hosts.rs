//! A map from hostnames to values, walked from the most specific name that covers a host.

use std::collections::HashMap;

use crate::model::Hostname;

/// Values by exact name, by wildcard suffix, and one for every host.
#[derive(Debug)]
pub(crate) struct HostMap<T> {
    exact: HashMap<String, T>,
    wildcard: HashMap<String, T>,
    any: Option<T>,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new(), any: None }
    }
}

impl<T> HostMap<T> {
    /// The values whose names cover `host`: the exact name, then wildcards from the longest suffix
    /// to the shortest, then the value for every host.
    pub(crate) fn walk<'a>(&'a self, host: &str) -> impl Iterator<Item = &'a T> {
        let exact = self.exact.get(host);
        exact.into_iter().chain(self.wildcards(host)).chain(&self.any)
    }

    /// The first value of [`Self::walk`].
    pub(crate) fn most_specific(&self, host: &str) -> Option<&T> {
        self.exact.get(host).or_else(|| self.wildcards(host).next()).or(self.any.as_ref())
    }

    /// The values of wildcards, from the longest suffix to the shortest. Without any wildcard the
    /// host is not taken apart.
    fn wildcards<'a>(&'a self, host: &str) -> impl Iterator<Item = &'a T> {
        let host = if self.wildcard.is_empty() { "" } else { host };
        suffixes(host).filter_map(|suffix| self.wildcard.get(suffix))
    }

    /// All values, in no particular order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.wildcard.values()).chain(&self.any)
    }

    /// All values, in no particular order.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.exact.values_mut().chain(self.wildcard.values_mut()).chain(&mut self.any)
    }
}

impl<T: Default> HostMap<T> {
    /// The value of a name, made when absent.
    pub(crate) fn entry(&mut self, name: Option<&Hostname>) -> &mut T {
        match name {
            Some(Hostname::Exact(name)) => self.exact.entry(name.clone()).or_default(),
            Some(Hostname::Wildcard(suffix)) => self.wildcard.entry(suffix.clone()).or_default(),
            None => self.any.get_or_insert_default(),
        }
    }
}

/// `a.b.c` gives `b.c`, `c`.
fn suffixes(host: &str) -> impl Iterator<Item = &str> {
    host.match_indices('.').map(|(dot, _)| &host[dot + 1..]).filter(|suffix| !suffix.is_empty())
}

/// Whether a route's hostname and a listener's have a host in common.
pub(crate) fn intersect(one: &Hostname, other: &Hostname) -> bool {
    let inside = |name: &str, suffix: &str| {
        name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
    };
    match (one, other) {
        (Hostname::Exact(a), Hostname::Exact(b)) => a == b,
        (Hostname::Exact(name), Hostname::Wildcard(suffix))
        | (Hostname::Wildcard(suffix), Hostname::Exact(name)) => inside(name, suffix),
        (Hostname::Wildcard(a), Hostname::Wildcard(b)) => a == b || inside(a, b) || inside(b, a),
    }
}
