//! Rules between the fields of a rule's filters, and between them and the rule.

use std::collections::BTreeSet;

use crate::read::rules::Rules;
use crate::resource::route::filter::{
    CorsFilter, PathModifier, PathModifierType, RequestMirror, RouteFilter, RouteFilterType,
};
use crate::resource::route::{PathMatchType, RouteRule};
use crate::text::check_new_path;

/// Statuses of redirects.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

/// Filters that may be there more than once.
const REPEATED: [RouteFilterType; 2] =
    [RouteFilterType::RequestMirror, RouteFilterType::ExtensionRef];

/// Headers that frame a message or belong to one connection, and the host, which is not a header
/// inside the proxy.
const UNTOUCHABLE: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Rules<'_> {
    pub(super) fn route_filters(&mut self, at: &str, filters: &[RouteFilter]) {
        let mut kinds = BTreeSet::new();
        for (index, filter) in filters.iter().enumerate() {
            let at = format!("{at}/filters/{index}");
            for (kind, field, is_set) in filter.fields() {
                if is_set && kind != filter.kind {
                    let message = format!("`{field}` is set, but `type` is another one");
                    self.error("filter-type", &format!("{at}/{field}"), message, None);
                }
                if !is_set && kind == filter.kind {
                    let message = format!("the field `{field}` is missing");
                    self.error("missing-field", &format!("{at}/type"), message, None);
                }
            }
            if !REPEATED.contains(&filter.kind) && !kinds.insert(filter.kind) {
                let message = "a filter of this type is there twice";
                self.error("duplicate-name", &format!("{at}/type"), message, None);
            }
            self.route_filter_fields(&at, filter);
        }
    }

    fn route_filter_fields(&mut self, at: &str, filter: &RouteFilter) {
        if let Some(extension) = &filter.extension_ref {
            let at = format!("{at}/extensionRef");
            self.only(&format!("{at}/group"), &extension.group, "waypoint.rs");
            self.only(&format!("{at}/kind"), &extension.kind, "Filter");
        }
        if let Some(redirect) = &filter.request_redirect {
            let at = format!("{at}/requestRedirect");
            if !REDIRECTS.contains(&redirect.status_code) {
                let message = format!("{} is not the status of a redirect", redirect.status_code);
                let expected = "301, 302, 303, 307 or 308";
                self.error("range", &format!("{at}/statusCode"), message, Some(expected));
            }
            self.path_modifier(&at, redirect.path.as_ref());
        }
        if let Some(rewrite) = &filter.url_rewrite {
            self.path_modifier(&format!("{at}/urlRewrite"), rewrite.path.as_ref());
        }
        if let Some(mirror) = &filter.request_mirror {
            self.mirror(&format!("{at}/requestMirror"), mirror);
        }
        if let Some(cors) = &filter.cors {
            self.cors(&format!("{at}/cors"), cors);
        }
        for (field, edits) in [
            ("requestHeaderModifier", &filter.request_header_modifier),
            ("responseHeaderModifier", &filter.response_header_modifier),
        ] {
            let Some(edits) = edits else { continue };
            let mut names = BTreeSet::new();
            let sets =
                (0..).zip(&edits.set).map(|(i, edit)| (format!("set/{i}/name"), &edit.name.0));
            let adds =
                (0..).zip(&edits.add).map(|(i, edit)| (format!("add/{i}/name"), &edit.name.0));
            let removes =
                (0..).zip(&edits.remove).map(|(i, name)| (format!("remove/{i}"), &name.0));
            for (path, name) in sets.chain(adds).chain(removes) {
                if !names.insert(name.as_str()) {
                    let message = format!("the header `{name}` is edited twice");
                    self.error("duplicate-name", &format!("{at}/{field}/{path}"), message, None);
                }
                if UNTOUCHABLE.contains(&name.as_str()) {
                    let message = format!("the header `{name}` is not for filters to edit");
                    self.error("format", &format!("{at}/{field}/{path}"), message, None);
                }
            }
        }
    }

    /// Rules between a rule's filters and the rest of it.
    pub(super) fn filters_and_rule(&mut self, at: &str, rule: &RouteRule) {
        self.paths_and_rule(at, &rule.filters, rule);
        for (index, filter) in rule.filters.iter().enumerate() {
            if filter.request_redirect.is_some() && !rule.backend_refs.is_empty() {
                let message = "the rule redirects: nothing would ever reach `backendRefs`";
                let expected = "one of `requestRedirect` and `backendRefs`";
                self.filter_conflict(at, index, message, expected);
            }
        }
    }

    /// Rules between a backend's filters and the rule.
    pub(super) fn backend_filters_and_rule(
        &mut self,
        at: &str,
        filters: &[RouteFilter],
        rule: &RouteRule,
    ) {
        self.paths_and_rule(at, filters, rule);
        let of_rule = rule.filters.iter().any(|filter| filter.cors.is_some());
        for (index, filter) in filters.iter().enumerate() {
            if filter.cors.is_some() && of_rule {
                let message = "the rule has a `cors` of its own: this one would never be asked";
                let expected = "`cors` on the rule or on its backends";
                self.filter_conflict(at, index, message, expected);
            }
        }
    }

    /// What changes paths: one filter of a list at most, and with a prefix only where the rule
    /// matches one.
    fn paths_and_rule(&mut self, at: &str, filters: &[RouteFilter], rule: &RouteRule) {
        let redirects = filters.iter().any(|filter| filter.request_redirect.is_some());
        for (index, filter) in filters.iter().enumerate() {
            if filter.url_rewrite.is_some() && redirects {
                let message = "there is a redirect: there is nothing to rewrite";
                let expected = "one of `requestRedirect` and `urlRewrite`";
                self.filter_conflict(at, index, message, expected);
            }
            let at = format!("{at}/filters/{index}");
            if let Some(rewrite) = &filter.url_rewrite {
                self.prefix_of_rule(&format!("{at}/urlRewrite"), rewrite.path.as_ref(), rule);
            }
            if let Some(redirect) = &filter.request_redirect {
                let path = redirect.path.as_ref();
                self.prefix_of_rule(&format!("{at}/requestRedirect"), path, rule);
            }
        }
    }

    /// A filter that is right in itself, and wrong beside what else there is.
    fn filter_conflict(&mut self, at: &str, index: usize, message: &str, expected: &str) {
        self.error("conflict", &format!("{at}/filters/{index}/type"), message, Some(expected));
    }

    fn mirror(&mut self, at: &str, mirror: &RequestMirror) {
        if mirror.backend_ref.kind == "Service" && mirror.backend_ref.port.is_none() {
            let message = "the field `port` is missing";
            let expected = Some("the port of the Service");
            self.error("missing-field", &format!("{at}/backendRef"), message, expected);
        }
        let Some(fraction) = &mirror.fraction else { return };
        if mirror.percent.is_some() {
            let message = "there is a `percent`, too";
            let expected = Some("one of `percent` and `fraction`");
            self.error("conflict", &format!("{at}/fraction"), message, expected);
        }
        if fraction.numerator > fraction.denominator {
            let message = "more than all requests";
            let expected = Some("at most the `denominator`");
            self.error("range", &format!("{at}/fraction/numerator"), message, expected);
        }
    }

    /// Each name once, and a star alone.
    fn cors(&mut self, at: &str, cors: &CorsFilter) {
        let origins = cors.allow_origins.iter().map(|origin| origin.0.to_string());
        let methods = cors.allow_methods.iter().map(|method| method.name().to_owned());
        let allowed = cors.allow_headers.iter().map(|name| name.0.to_string());
        let exposed = cors.expose_headers.iter().map(|name| name.0.to_string());
        let lists: [(&str, Vec<String>); 4] = [
            ("allowOrigins", origins.collect()),
            ("allowMethods", methods.collect()),
            ("allowHeaders", allowed.collect()),
            ("exposeHeaders", exposed.collect()),
        ];
        for (field, names) in lists {
            let mut seen = BTreeSet::new();
            for (index, name) in names.iter().enumerate() {
                let at = format!("{at}/{field}/{index}");
                self.unique(&mut seen, name, "the value", &at);
                if name == "*" && names.len() > 1 {
                    let message = "`*` allows the others already";
                    self.error("conflict", &at, message, Some("`*` alone, or no `*`"));
                }
            }
        }
    }

    /// What replaces the prefix of a match needs one prefix, and one only.
    fn prefix_of_rule(&mut self, at: &str, path: Option<&PathModifier>, rule: &RouteRule) {
        let prefix = |kind| kind == PathMatchType::PathPrefix;
        let replaces = path.is_some_and(|path| path.kind == PathModifierType::ReplacePrefixMatch);
        let one = rule.matches.len() <= 1 && rule.matches.iter().all(|m| prefix(m.path.kind));
        if replaces && !one {
            let message = "`ReplacePrefixMatch` needs the one prefix that the rule matches";
            let expected = "exactly one match, of type `PathPrefix`";
            self.error("conflict", &format!("{at}/path/type"), message, Some(expected));
        }
    }

    fn path_modifier(&mut self, at: &str, path: Option<&PathModifier>) {
        let Some(path) = path else { return };
        let fields = [
            (PathModifierType::ReplaceFullPath, "replaceFullPath", &path.replace_full_path),
            (
                PathModifierType::ReplacePrefixMatch,
                "replacePrefixMatch",
                &path.replace_prefix_match,
            ),
        ];
        for (kind, field, value) in fields {
            match value {
                Some(_) if kind != path.kind => {
                    let message = format!("`{field}` is set, but `type` is another one");
                    self.error("filter-type", &format!("{at}/path/{field}"), message, None);
                }
                None if kind == path.kind => {
                    let message = format!("the field `{field}` is missing");
                    self.error("missing-field", &format!("{at}/path/type"), message, None);
                }
                Some(value) if kind == PathModifierType::ReplaceFullPath || !value.is_empty() => {
                    if let Err(message) = check_new_path(value) {
                        let expected = Some("a path as it is after normalisation");
                        self.error("format", &format!("{at}/path/{field}"), message, expected);
                    }
                }
                _ => {}
            }
        }
    }
}
