//! Tokens that were verified, so that the same token costs one signature check.
//!
//! A token is known only by all of its bytes: a digest of them would be as safe, but costs more than
//! everything else that a known token does. The table's hash has a random key, so that nobody can
//! choose tokens that collide.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use crate::token::Validity;

/// Tokens that are remembered at most; past it the oldest goes.
pub const TOKENS_MAX: usize = 1000;

/// What the tokens and their headers may take together in bytes; past it the oldest go.
pub const BYTES_MAX: usize = 2 << 20;

/// What one token's headers may take in bytes; a token with more is checked each time.
pub const HEADER_BYTES_MAX: usize = 2 << 10;

/// What a verified token allows.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The issuer's place in the configuration.
    pub issuer: usize,
    /// When it is valid: looked at on each use.
    pub validity: Validity,
    /// Values of the headers that are made of claims, in the order of the configuration.
    pub headers: Vec<Option<String>>,
}

impl Grant {
    fn header_bytes(&self) -> usize {
        self.headers.iter().flatten().map(String::len).sum()
    }
}

/// The cache. Cleared whenever keys change.
#[derive(Debug, Default)]
pub struct Cache {
    grants: HashMap<Rc<str>, Grant>,
    oldest_first: VecDeque<Rc<str>>,
    /// Of all tokens and their headers.
    bytes: usize,
}

impl Cache {
    /// What a token allows, if it was verified.
    pub fn get(&self, token: &str) -> Option<&Grant> {
        self.grants.get(token)
    }

    /// Remembers a token.
    pub fn insert(&mut self, token: &str, grant: &Grant) {
        if grant.header_bytes() > HEADER_BYTES_MAX || self.grants.contains_key(token) {
            return;
        }
        self.bytes += token.len() + grant.header_bytes();
        let token: Rc<str> = token.into();
        self.grants.insert(Rc::clone(&token), grant.clone());
        self.oldest_first.push_back(token);
        while self.grants.len() > TOKENS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.oldest_first.pop_front() else { return };
            self.forget(&oldest);
        }
    }

    /// Forgets a token that is no longer valid.
    pub fn remove(&mut self, token: &str) {
        self.forget(token);
        self.oldest_first.retain(|other| **other != *token);
    }

    fn forget(&mut self, token: &str) {
        if let Some(grant) = self.grants.remove(token) {
            self.bytes -= token.len() + grant.header_bytes();
        }
    }

    /// Forgets everything: keys have changed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANT: Grant = Grant {
        issuer: 0,
        validity: Validity { expires: None, not_before: None },
        headers: Vec::new(),
    };

    #[test]
    fn past_the_bound_the_oldest_token_goes() {
        let mut cache = Cache::default();
        let name = |n: usize| n.to_string();
        for n in 0..=TOKENS_MAX {
            cache.insert(&name(n), &GRANT);
        }
        assert_eq!((cache.grants.len(), cache.oldest_first.len()), (TOKENS_MAX, TOKENS_MAX));
        assert_eq!((cache.get(&name(0)), cache.get(&name(1))), (None, Some(&GRANT)));
        cache.remove(&name(1));
        cache.insert(&name(0), &GRANT);
        assert_eq!((cache.grants.len(), cache.oldest_first.len()), (TOKENS_MAX, TOKENS_MAX));
    }

    #[test]
    fn past_the_bound_of_bytes_the_oldest_tokens_go() {
        let mut cache = Cache::default();
        let name = |n: usize| format!("{n:08192}");
        let room = BYTES_MAX / name(0).len();
        for n in 0..=room {
            cache.insert(&name(n), &GRANT);
        }
        assert_eq!((cache.grants.len(), cache.bytes), (room, BYTES_MAX));
        assert_eq!((cache.get(&name(0)), cache.get(&name(room))), (None, Some(&GRANT)));
        cache.remove(&name(1));
        assert_eq!(cache.bytes, BYTES_MAX - name(1).len());
    }

    #[test]
    fn a_token_with_large_headers_is_not_kept() {
        let headers = vec![Some("x".repeat(HEADER_BYTES_MAX)), Some("x".to_owned())];
        let mut cache = Cache::default();
        cache.insert("a", &Grant { headers, ..GRANT });
        assert_eq!(cache.get("a"), None);
    }
}
