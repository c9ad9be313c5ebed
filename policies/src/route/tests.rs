//! What choosing a route costs, counted.

use std::sync::Arc;

use http::{HeaderMap, Method};

use smallvec::SmallVec;

use super::*;
use crate::model::ResourceKey;

fn rule(id: &str) -> Arc<Rule> {
    let key = ResourceKey { kind: String::new(), namespace: String::new(), name: id.into() };
    Arc::new(Rule {
        id: id.into(),
        route: Box::new(key),
        filters: Vec::new(),
        actions: Arc::default(),
        request_timeout: None,
        backend_timeout: None,
        backends: SmallVec::new(),
    })
}

fn seniority(order: u64) -> Seniority {
    let name = (String::new(), String::new());
    Seniority { created: None, order, name, rule: 0, position: 0 }
}

/// A table of so many routes in each of four shapes, and a prefix `/` beneath them.
fn table(routes: u64) -> RouteTable {
    let mut table = TableBuilder::default();
    table.listener(None);
    let mut attach = |host: Option<String>, path: PathMatch, order: u64, id: &str| {
        let when = Match { path, method: None, headers: Vec::new(), query: Vec::new() };
        let host = host.map(Hostname::Exact);
        table.attach(None, host.as_ref(), when, seniority(order), &rule(id));
    };
    for n in 0..routes {
        attach(Some(format!("h{n}.test")), PathMatch::prefix("/"), n, &format!("host-{n}"));
        attach(None, PathMatch::Exact(format!("/exact/{n}")), n, &format!("exact-{n}"));
        attach(None, PathMatch::prefix(&format!("/prefix/{n}")), n, &format!("prefix-{n}"));
        attach(None, PathMatch::prefix(&format!("/{n}/deep/er")), n, &format!("deep-{n}"));
    }
    attach(None, PathMatch::prefix("/"), 0, "rest");
    table.build()
}

/// The rule that a request takes, and how many matches were looked at.
fn chosen(table: &RouteTable, host: &str, path: &str) -> (String, usize) {
    let (method, headers) = (Method::GET, HeaderMap::new());
    let facts = Facts { host, method: &method, path, query: None, headers: &headers, sni: None };
    let mut looked_at = 0;
    match table.choose(&facts, &mut looked_at) {
        Selection::Rule(rule) => (rule.id.to_string(), looked_at),
        other => (format!("{other:?}"), looked_at),
    }
}

#[test]
fn choosing_among_ten_thousand_routes_looks_at_as_many_as_among_ten() {
    let (few, many) = (table(10), table(10_000));
    for (host, path, want) in [
        ("h7.test", "/", "host-7"),
        ("h7.test", "/exact/7", "host-7"),
        ("any.test", "/exact/7", "exact-7"),
        ("any.test", "/exact/7/", "rest"),
        ("any.test", "/prefix/7", "prefix-7"),
        ("any.test", "/prefix/7/a/b/c", "prefix-7"),
        ("any.test", "/prefix/77777", "rest"),
        ("any.test", "/7/deep/er/", "deep-7"),
        ("any.test", "/7/deep/erx", "rest"),
        ("any.test", "/", "rest"),
    ] {
        let (rule, looked_at) = chosen(&many, host, path);
        assert_eq!(rule, want, "{host}{path}");
        assert_eq!((rule, looked_at), chosen(&few, host, path), "{host}{path}");
        assert_eq!(looked_at, 1, "{host}{path}");
    }
}
