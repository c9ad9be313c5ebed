//! Where modules come from, and what they must be.

use super::Format;
use crate::model::ModuleSource;

/// A SHA-256 digest, given in lower case whatever its case was.
#[derive(Debug)]
pub(crate) struct Sha256;

impl Format for Sha256 {
    const NAME: &'static str = "sha256";
    const EXPECTED: &'static str = "64 hexadecimal digits";
    const PATTERN: Option<&'static str> = Some("^[0-9a-fA-F]{64}$");
    type Value = String;

    fn parse(text: &str) -> Result<String, String> {
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(text.to_ascii_lowercase())
        } else {
            Err(format!("`{text}` is not a SHA-256 digest"))
        }
    }
}

/// Modules that are part of the proxy.
pub(crate) const BUILTINS: [&str; 3] = ["jwt-auth", "payload-router", "pii-redact"];

/// Where a module comes from.
#[derive(Debug)]
pub(crate) struct ModuleUrl;

impl Format for ModuleUrl {
    const NAME: &'static str = "module-url";
    const EXPECTED: &'static str = "`builtin://NAME`, `file://PATH`, `http://…` or `https://…`";
    type Value = ModuleSource;

    fn parse(text: &str) -> Result<ModuleSource, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("`{text}` is not a URL of a module"));
        };
        if rest.is_empty() || rest.contains(char::is_whitespace) {
            return Err(format!("`{text}` is not a URL of a module"));
        }
        match scheme {
            "builtin" if BUILTINS.contains(&rest) => Ok(ModuleSource::Builtin(rest.to_owned())),
            "builtin" => Err(format!("there is no built-in filter `{rest}`")),
            "file" => Ok(ModuleSource::File(rest.to_owned())),
            "http" | "https" => match text.parse::<http::Uri>() {
                Ok(uri) if uri.host().is_some_and(|host| !host.is_empty()) => {
                    Ok(ModuleSource::Http(text.to_owned()))
                }
                _ => Err(format!("`{text}` is not a URL")),
            },
            "oci" => Err("modules from `oci://` registries are not supported yet".to_owned()),
            _ => Err(format!("`{scheme}://` is not a place that modules come from")),
        }
    }
}
