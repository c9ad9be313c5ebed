//! Tokens that were verified, so that the same token costs one signature check.

use std::collections::{HashMap, VecDeque};

use sha2::{Digest, Sha256};

use crate::token::Validity;

/// Tokens that are remembered at most; past it the oldest goes.
pub const TOKENS_MAX: usize = 1000;

/// What one token's headers may take in bytes; a token with more is checked each time.
pub const HEADER_BYTES_MAX: usize = 2 << 10;

/// Names a token without keeping it.
pub type TokenDigest = [u8; 32];

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

/// The cache. Cleared whenever keys change.
#[derive(Debug, Default)]
pub struct Cache {
    grants: HashMap<TokenDigest, Grant>,
    oldest_first: VecDeque<TokenDigest>,
}

impl Cache {
    /// The name of a token.
    pub fn digest(token: &str) -> TokenDigest {
        Sha256::digest(token).into()
    }

    /// What a token allows, if it was verified.
    pub fn get(&self, digest: &TokenDigest) -> Option<&Grant> {
        self.grants.get(digest)
    }

    /// Remembers a token.
    pub fn insert(&mut self, digest: TokenDigest, grant: &Grant) {
        let bytes: usize = grant.headers.iter().flatten().map(String::len).sum();
        if bytes > HEADER_BYTES_MAX || self.grants.contains_key(&digest) {
            return;
        }
        if self.oldest_first.len() == TOKENS_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.grants.remove(&oldest);
        }
        self.grants.insert(digest, grant.clone());
        self.oldest_first.push_back(digest);
    }

    /// Forgets a token that is no longer valid.
    pub fn remove(&mut self, digest: &TokenDigest) {
        if self.grants.remove(digest).is_some() {
            self.oldest_first.retain(|other| other != digest);
        }
    }

    /// Forgets everything: keys have changed.
    pub fn clear(&mut self) {
        self.grants.clear();
        self.oldest_first.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_bound_the_oldest_token_goes() {
        let grant = Grant { issuer: 0, validity: Validity::default(), headers: Vec::new() };
        let mut cache = Cache::default();
        let name = |n: usize| Cache::digest(&n.to_string());
        for n in 0..=TOKENS_MAX {
            cache.insert(name(n), &grant);
        }
        assert_eq!((cache.grants.len(), cache.oldest_first.len()), (TOKENS_MAX, TOKENS_MAX));
        assert_eq!((cache.get(&name(0)), cache.get(&name(1))), (None, Some(&grant)));
        cache.remove(&name(1));
        cache.insert(name(0), &grant);
        assert_eq!((cache.grants.len(), cache.oldest_first.len()), (TOKENS_MAX, TOKENS_MAX));
    }

    #[test]
    fn a_token_with_large_headers_is_not_kept() {
        let headers = vec![Some("x".repeat(HEADER_BYTES_MAX)), Some("x".to_owned())];
        let grant = Grant { issuer: 0, validity: Validity::default(), headers };
        let mut cache = Cache::default();
        cache.insert(Cache::digest("a"), &grant);
        assert_eq!(cache.get(&Cache::digest("a")), None);
    }
}
