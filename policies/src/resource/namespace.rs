//! `Namespace`, and the selectors that choose among them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// A namespace: only its labels are of use here.
///
/// # Source
///
/// Kubernetes core/v1, `Namespace`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("x-ignored" = ["spec"]))]
pub(crate) struct Namespace {}

/// The label that Kubernetes gives every namespace: its own name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Chooses by labels; an empty one chooses everything.
///
/// # Source
///
/// Kubernetes meta/v1, `LabelSelector`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LabelSelector {
    /// Labels that must be there with these values.
    pub match_labels: BTreeMap<String, String>,
    /// What else must hold of the labels.
    #[schemars(length(max = 64))]
    pub match_expressions: Vec<LabelExpression>,
}

/// One condition on a label.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct LabelExpression {
    /// The label's name.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: LabelOperator,
    /// For `In` and `NotIn`.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum LabelOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    /// Whether it chooses the namespace of this name and these labels.
    pub(crate) fn selects(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let value = |key: &str| match key {
            NAME_LABEL => Some(name),
            key => labels.get(key).map(String::as_str),
        };
        self.match_labels.iter().all(|(key, wanted)| value(key) == Some(wanted))
            && self.match_expressions.iter().all(|one| one.holds(value(&one.key)))
    }
}

impl LabelExpression {
    fn holds(&self, value: Option<&str>) -> bool {
        let is_listed = |value: &str| self.values.iter().any(|listed| listed == value);
        match self.operator {
            LabelOperator::In => value.is_some_and(is_listed),
            LabelOperator::NotIn => !value.is_some_and(is_listed),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}
