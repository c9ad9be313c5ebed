//! The checked configuration as the scan uses it: what is wanted, and what is done with a match.

use crate::detect::{Entities, Entity};
use crate::operator::Operator;

/// What is done with a match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Action {
    /// It is replaced.
    #[default]
    Redact,
    /// The request or response that holds it is refused.
    Block,
    /// It stays and is counted.
    Count,
}

/// The rule of one entity.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) action: Action,
    pub(crate) operator: Operator,
}

/// All rules.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) wanted: Entities,
    rules: [Option<Rule>; Entity::ALL.len()],
    /// Exact values that are no matches, sorted.
    allow: Vec<Vec<u8>>,
}

impl Rules {
    pub(crate) fn new(rules: [Option<Rule>; Entity::ALL.len()], mut allow: Vec<Vec<u8>>) -> Self {
        let mut wanted = Entities::default();
        for entity in Entity::ALL {
            if rules[entity as usize].is_some() {
                wanted.insert(entity);
            }
        }
        allow.sort_unstable();
        Self { wanted, rules, allow }
    }

    /// Whether the configuration lets exactly this text pass.
    pub(crate) fn allows(&self, text: &[u8]) -> bool {
        self.allow.binary_search_by(|allowed| allowed.as_slice().cmp(text)).is_ok()
    }

    pub(crate) fn action(&self, entity: Entity) -> Action {
        self.rule(entity).map_or(Action::Count, |rule| rule.action)
    }

    /// What is written instead of a match.
    pub(crate) fn replacement(&self, entity: Entity, text: &[u8]) -> Vec<u8> {
        match self.rule(entity) {
            Some(rule) => rule.operator.apply(entity, text),
            None => entity.label().into(),
        }
    }

    fn rule(&self, entity: Entity) -> Option<&Rule> {
        self.rules[entity as usize].as_ref()
    }
}

/// How many matches there were, by entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally([u32; Entity::ALL.len()]);

impl Tally {
    pub(crate) fn count(&mut self, entity: Entity) {
        let count = &mut self.0[entity as usize];
        *count = count.saturating_add(1);
    }

    /// What was counted since the last call.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = (Entity, u32)> + use<> {
        let counts = std::mem::take(&mut self.0);
        Entity::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0)
    }
}
