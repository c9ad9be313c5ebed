//! What rules do to a request's URI: redirects, and changed paths.

use http::Uri;
use http::uri::Scheme;

use super::matching::covers;

/// How a path changes.
///
/// # Source
///
/// Gateway API, `HTTPPathModifier`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathEdit {
    /// The whole path.
    Full(String),
    /// The prefix that the rule matched.
    Prefix {
        /// The prefix, as it is written.
        matched: String,
        /// What takes its place.
        replacement: String,
    },
}

impl PathEdit {
    /// The path that takes the place of `path`; begins with a slash.
    pub fn apply(&self, path: &str) -> String {
        match self {
            Self::Full(full) => full.clone(),
            // Another path than the rule's can only be here when the rule was chosen by it.
            Self::Prefix { matched, .. } if !covers(matched, path) => path.to_owned(),
            Self::Prefix { matched, replacement } => {
                let rest = path.get(trimmed(matched).len()..).unwrap_or_default();
                let whole = format!("{}{rest}", trimmed(replacement));
                if whole.is_empty() { "/".to_owned() } else { whole }
            }
        }
    }
}

/// A prefix stands for whole segments: its trailing slash says nothing.
fn trimmed(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}

/// An answer that sends the client elsewhere; what is `None` stays as the request has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Scheme>,
    /// The host, without a port.
    pub hostname: Option<String>,
    /// How the path changes.
    pub path: Option<PathEdit>,
    /// The port; `None` = that of `scheme`, or else the listener's.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// What of a request its redirect is made of.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Whether it came over TLS.
    pub tls: bool,
    /// The host: no port; IPv6 in brackets.
    pub host: &'a str,
    /// The listener's port.
    pub port: u16,
    /// The path, normalised.
    pub path: &'a str,
    /// The query, without the question mark.
    pub query: Option<&'a str>,
}

impl Redirect {
    /// The value of `location`. The port is left out where it is the scheme's own; the query is
    /// kept.
    ///
    /// # Source
    ///
    /// Gateway API, `HTTPRequestRedirectFilter.port`.
    pub fn location(&self, asked: &Asked<'_>) -> String {
        let own = if asked.tls { Scheme::HTTPS } else { Scheme::HTTP };
        let scheme = self.scheme.as_ref().unwrap_or(&own);
        let well_known = if *scheme == Scheme::HTTPS { 443 } else { 80 };
        let derived = if self.scheme.is_some() { well_known } else { asked.port };
        let port = self.port.unwrap_or(derived);
        let host = self.hostname.as_deref().unwrap_or(asked.host);
        let mut location = format!("{scheme}://{host}");
        if port != well_known {
            location += &format!(":{port}");
        }
        match &self.path {
            Some(edit) => location += &edit.apply(asked.path),
            None => location += asked.path,
        }
        if let Some(query) = asked.query {
            location.push('?');
            location += query;
        }
        location
    }
}

/// What the upstream gets in place of what the client asked for.
///
/// # Source
///
/// Gateway API, `HTTPURLRewriteFilter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The host, without a port.
    pub hostname: Option<String>,
    /// How the path changes.
    pub path: Option<PathEdit>,
}

impl Rewrite {
    /// The URI that the upstream gets; the query is kept.
    ///
    /// # Errors
    ///
    /// When the whole is no URI, for example because it is too long.
    pub fn apply(&self, uri: &Uri) -> Result<Uri, http::Error> {
        let mut parts = uri.clone().into_parts();
        if let Some(hostname) = &self.hostname {
            parts.authority = Some(hostname.parse()?);
        }
        if let Some(edit) = &self.path {
            let mut target = edit.apply(uri.path());
            if let Some(query) = uri.query() {
                target.push('?');
                target += query;
            }
            parts.path_and_query = Some(target.parse()?);
        }
        Ok(Uri::from_parts(parts)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_replaced_as_the_table_of_the_gateway_api_says() {
        for (path, matched, replacement, want) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo/bar", "/", "/xyz", "/xyz/foo/bar"),
            ("/", "/", "/xyz", "/xyz/"),
            ("/food", "/foo", "/xyz", "/food"),
        ] {
            let (matched, replacement) = (matched.to_owned(), replacement.to_owned());
            let edit = PathEdit::Prefix { matched, replacement };
            assert_eq!(edit.apply(path), want, "{path} {edit:?}");
        }
        assert_eq!(PathEdit::Full("/all".to_owned()).apply("/foo/bar"), "/all");
    }

    #[test]
    fn a_rewritten_uri_keeps_its_query_and_what_is_not_rewritten() {
        let path = Some(PathEdit::Full("/all".to_owned()));
        let hostname = Some("new.test".to_owned());
        for (hostname, path, want) in [
            (None, path.clone(), "http://old.test:8080/all?q=1"),
            (hostname.clone(), None, "http://new.test/a?q=1"),
            (hostname, path, "http://new.test/all?q=1"),
        ] {
            let uri = Uri::from_static("http://old.test:8080/a?q=1");
            assert_eq!(Rewrite { hostname, path }.apply(&uri).expect("a URI"), want);
        }
    }

    #[test]
    fn a_location_names_a_port_only_where_it_is_not_the_schemes_own() {
        let asked = Asked { tls: false, host: "shop.test", port: 8080, path: "/a", query: None };
        let tls = Asked { tls: true, port: 8443, ..asked };
        let (http, https) = (Some(Scheme::HTTP), Some(Scheme::HTTPS));
        for (scheme, port, asked, want) in [
            (None, None, asked, "http://shop.test:8080/a"),
            (None, None, Asked { port: 80, ..asked }, "http://shop.test/a"),
            (None, None, tls, "https://shop.test:8443/a"),
            (None, None, Asked { port: 443, ..tls }, "https://shop.test/a"),
            (None, None, Asked { port: 443, ..asked }, "http://shop.test:443/a"),
            (https.clone(), None, asked, "https://shop.test/a"),
            (http.clone(), None, tls, "http://shop.test/a"),
            (https.clone(), Some(8443), asked, "https://shop.test:8443/a"),
            (https, Some(443), asked, "https://shop.test/a"),
            (http, Some(443), asked, "http://shop.test:443/a"),
            (None, Some(80), asked, "http://shop.test/a"),
            (None, None, Asked { query: Some("q=1"), ..asked }, "http://shop.test:8080/a?q=1"),
        ] {
            let redirect = Redirect { scheme, hostname: None, path: None, port, status: 302 };
            assert_eq!(redirect.location(&asked), want, "{redirect:?}");
        }
    }
}
