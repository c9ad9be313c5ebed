//! Which rule answers a request: listeners by host, routes by host, matches by precedence.
//!
//! ```text
//! host ──► listener (most specific hostname) ──► routes' hostnames, most specific first
//!                                                   └─► matches, presorted ──► Rule
//! ```
//!
//! Everything is sorted when the table is built; a request walks hash maps from its full host to
//! its shortest suffix, then by its path, and takes the first match that holds: what it costs does
//! not grow with the number of routes. A request that no match of the more
//! specific hostname takes falls through to the less specific one of the *same* listener, as the
//! precedence of the Gateway API says; it never falls through to another listener.

mod cors;
mod hosts;
mod index;
mod matching;
mod uri;

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};

pub use self::cors::{Allowed, Cors, CrossOrigin, OriginMatch};
pub(crate) use self::hosts::{HostMap, intersect};
use self::index::Index;
pub(crate) use self::matching::{Match, PathMatch, TextMatch, covers};
pub use self::uri::{Asked, PathEdit, Redirect, Rewrite};
use crate::model::{FilterMatch, Hostname, Rule};

/// What of a request decides its route.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The host: lower case, no port, no trailing dot.
    pub host: &'a str,
    /// The method.
    pub method: &'a Method,
    /// The path, normalised once by the codec; matched as it is, without decoding.
    pub path: &'a str,
    /// The query, without the question mark.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The server name of the TLS handshake.
    pub sni: Option<&'a str>,
}

/// What [`RouteTable::select`] found.
#[derive(Clone, Copy, Debug)]
pub enum Selection<'a> {
    /// This rule answers.
    Rule(&'a Arc<Rule>),
    /// No listener has this host (404).
    NoHost,
    /// The TLS handshake chose another listener than the host does (421).
    Misdirected,
    /// The listener has the host, but no match holds (404).
    NoRule,
    /// A service entrance without routes: the service itself.
    Direct,
}

/// The routes of one entrance.
#[derive(Debug, Default)]
pub struct RouteTable {
    listeners: HostMap<Listener>,
    /// A service entrance to which no route is attached.
    direct: bool,
    header_names: Vec<HeaderName>,
}

#[derive(Debug, Default)]
struct Listener {
    /// Tells listeners apart.
    id: usize,
    hosts: HostMap<Index>,
}

/// One match of one rule, with what decides its place among the others.
#[derive(Debug)]
struct Candidate {
    when: Match,
    rule: Arc<Rule>,
    /// Apart, for no request reads it.
    seniority: Box<Seniority>,
}

/// Breaks ties between equal matches, lower first: age of the route, its name, then the position
/// of the rule and of the match in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seniority {
    /// The time at which the route was made, where its metadata tells.
    pub created: Option<String>,
    /// The place of the route among all files.
    pub order: u64,
    /// Its namespace and name.
    pub name: (String, String),
    /// The rule's index.
    pub rule: usize,
    /// The index of the match in the rule.
    pub position: usize,
}

impl RouteTable {
    /// Finds the rule for a request.
    ///
    /// # Source
    ///
    /// Gateway API, `HTTPRouteRule.matches` (precedence) and `Listener.hostname` (isolation).
    pub fn select(&self, facts: &Facts<'_>) -> Selection<'_> {
        self.choose(facts, &mut 0)
    }

    /// The same; counts the matches that are looked at.
    fn choose(&self, facts: &Facts<'_>, looked_at: &mut usize) -> Selection<'_> {
        if self.direct {
            return Selection::Direct;
        }
        let Some(listener) = self.listeners.most_specific(facts.host) else {
            return Selection::NoHost;
        };
        if !self.handshake_agrees(facts.sni, listener) {
            return Selection::Misdirected;
        }
        listener
            .hosts
            .walk(facts.host)
            .find_map(|index| {
                index.find(facts.path, &mut |candidate| {
                    *looked_at += 1;
                    candidate.when.holds(facts)
                })
            })
            .map_or(Selection::NoRule, |candidate| Selection::Rule(&candidate.rule))
    }

    /// Headers that any match reads: a filter that changes one of them changes the route.
    pub fn header_names(&self) -> &[HeaderName] {
        &self.header_names
    }

    /// Every rule of the table, each once.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        let mut seen = BTreeSet::new();
        self.listeners
            .values()
            .flat_map(|listener| listener.hosts.values().flat_map(Index::each))
            .map(|candidate| &candidate.rule)
            .filter(move |rule| seen.insert(Arc::as_ptr(rule)))
    }

    fn handshake_agrees(&self, sni: Option<&str>, listener: &Listener) -> bool {
        sni.is_none_or(|name| {
            self.listeners.most_specific(name).is_none_or(|chosen| chosen.id == listener.id)
        })
    }
}

/// Collects routes; [`TableBuilder::build`] sorts them.
#[derive(Debug, Default)]
pub(crate) struct TableBuilder {
    table: RouteTable,
    next: usize,
}

impl TableBuilder {
    /// Adds a listener; one of the same hostname must not exist.
    pub(crate) fn listener(&mut self, hostname: Option<&Hostname>) {
        let listener = Listener { id: self.next, hosts: HostMap::default() };
        self.next += 1;
        *self.table.listeners.entry(hostname) = listener;
    }

    /// Attaches one match of a rule to a listener, under one of its route's hostnames.
    pub(crate) fn attach(
        &mut self,
        listener: Option<&Hostname>,
        host: Option<&Hostname>,
        when: Match,
        seniority: Seniority,
        rule: &Arc<Rule>,
    ) {
        let listener = self.table.listeners.entry(listener);
        let index = listener.hosts.entry(host);
        let (rule, seniority) = (Arc::clone(rule), Box::new(seniority));
        index.insert(Candidate { when, rule, seniority });
    }

    /// Sorts every list by precedence.
    pub(crate) fn build(mut self) -> RouteTable {
        let mut names = BTreeSet::new();
        for listener in self.table.listeners.values_mut() {
            for index in listener.hosts.values_mut() {
                index.sort();
                let all = index.each();
                let headers = all.iter().flat_map(|candidate| candidate.when.header_names());
                names.extend(headers.map(|name| name.as_str().to_owned()));
            }
        }
        self.table.header_names =
            names.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect();
        self.table
    }

    /// The table of a service entrance without routes.
    pub(crate) fn direct() -> RouteTable {
        RouteTable { direct: true, ..RouteTable::default() }
    }
}

impl Rule {
    /// The index of a backend, chosen by weight from an evenly distributed number; `None` when
    /// there is no backend or all weights are zero: the rule answers 500.
    pub fn pick(&self, random: u32) -> Option<usize> {
        let total: u64 = self.backends.iter().map(|backend| u64::from(backend.weight)).sum();
        // `random / 2^32` of the total: no division, and no bias worth naming at these sizes.
        let mut point = ((u128::from(random) * u128::from(total)) >> 32) as u64;
        self.backends.iter().position(|backend| {
            let weight = u64::from(backend.weight);
            let chosen = point < weight;
            point = point.saturating_sub(weight);
            chosen
        })
    }
}

impl FilterMatch {
    /// Whether a request on this port is one that the filter sees.
    pub fn holds(&self, method: &Method, path: &str, port: u16) -> bool {
        (self.methods.is_empty() || self.methods.contains(method))
            && (self.ports.is_empty() || self.ports.contains(&port))
            && (self.path_prefixes.is_empty()
                || self.path_prefixes.iter().any(|prefix| covers(prefix, path)))
    }
}

#[cfg(test)]
mod tests;
