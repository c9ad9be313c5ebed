//! The entities and their detectors, one file each.
//!
//! A detector is asked whether a match begins at one place, and answers where it ends.

pub(crate) mod card;
pub(crate) mod context;
pub(crate) mod email;
pub(crate) mod iban;
pub(crate) mod ip;
pub(crate) mod luhn;
pub(crate) mod my_number;
pub(crate) mod phone;
pub(crate) mod ssn;

use serde::Deserialize;

use crate::number::Number;
use crate::window::{More, Window};

/// What is looked for. In this order the first wins among matches of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Entity {
    /// An e-mail address.
    Email,
    /// An international bank account number.
    Iban,
    /// A payment card number.
    Card,
    /// A Japanese individual number, マイナンバー.
    MyNumber,
    /// A US social security number.
    Ssn,
    /// A telephone number.
    Phone,
    /// An IP address.
    Ip,
}

impl Entity {
    /// All of them, in order.
    pub(crate) const ALL: [Self; 7] =
        [Self::Email, Self::Iban, Self::Card, Self::MyNumber, Self::Ssn, Self::Phone, Self::Ip];

    /// Their names in the configuration, in the same order.
    pub(crate) const CONFIG_NAMES: [&'static str; 7] =
        ["email", "iban", "card", "myNumber", "ssn", "phone", "ip"];

    /// By its name in the configuration.
    pub(crate) fn from_config(name: &str) -> Option<Self> {
        let index = Self::CONFIG_NAMES.iter().position(|known| *known == name)?;
        Some(Self::ALL[index])
    }

    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Iban => "iban",
            Self::Card => "card",
            Self::MyNumber => "my_number",
            Self::Ssn => "ssn",
            Self::Phone => "phone",
            Self::Ip => "ip",
        }
    }

    /// What replaces it unless the configuration says otherwise.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Email => "<EMAIL>",
            Self::Iban => "<IBAN>",
            Self::Card => "<CARD>",
            Self::MyNumber => "<MY_NUMBER>",
            Self::Ssn => "<SSN>",
            Self::Phone => "<PHONE>",
            Self::Ip => "<IP>",
        }
    }
}

/// A set of entities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entities(u8);

impl Entities {
    pub(crate) fn insert(&mut self, entity: Entity) {
        self.0 |= 1 << entity as u8;
    }

    pub(crate) fn contains(self, entity: Entity) -> bool {
        self.0 & 1 << entity as u8 != 0
    }

    pub(crate) fn only(self, entities: &[Entity]) -> Self {
        let mut kept = Self::default();
        entities.iter().filter(|entity| self.contains(**entity)).for_each(|e| kept.insert(*e));
        kept
    }
}

/// A match: what, and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    pub(crate) entity: Entity,
    pub(crate) end: usize,
}

/// What earlier searches learnt, so that a run is read once and not from every byte of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memo {
    pub(crate) email: email::Memo,
    /// The digits before here are too few for any number.
    few_digits: usize,
}

impl Memo {
    /// The text lost `count` bytes at its front.
    pub(crate) fn shift(&mut self, count: usize) {
        self.email.shift(count);
        self.few_digits = self.few_digits.saturating_sub(count);
    }
}

/// The search at one place, for the longest match.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    window: Window<'a>,
    wanted: Entities,
    best: Option<Match>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(window: Window<'a>, wanted: Entities) -> Self {
        Self { window, wanted, best: None }
    }

    /// The longest match that begins at `place`. Only e-mail addresses begin within a word.
    ///
    /// # Errors
    ///
    /// [`More`] when a detector must see more text.
    pub(crate) fn run(mut self, place: usize, memo: &mut Memo) -> Result<Option<Match>, More> {
        let Some(char) = self.window.at(place)? else { return Ok(None) };
        if !char.symbol.is_ascii() {
            return Ok(None);
        }
        if self.window.begins_word(place) {
            match char.symbol {
                b'0'..=b'9' => self.at_digit(place, memo)?,
                b'+' | b'(' => self.offer(Entity::Phone, |w| phone::find_marked(w, place))?,
                b'A'..=b'Z' | b'a'..=b'z' => self.offer(Entity::Iban, |w| iban::find(w, place))?,
                b':' | b'_' => {}
                _ => return Ok(None),
            }
            if char.symbol.is_ascii_hexdigit() || char.symbol == b':' {
                self.offer(Entity::Ip, |w| ip::find(w, place))?;
            }
        }
        self.offer(Entity::Email, |w| email::find(w, place, &mut memo.email))?;
        Ok(self.best)
    }

    fn at_digit(&mut self, place: usize, memo: &mut Memo) -> Result<(), More> {
        if place < memo.few_digits {
            return Ok(());
        }
        let number = Number::read(&self.window, place)?;
        if number.digits().len() < ssn::DIGITS {
            memo.few_digits = number.run_end(place);
            return Ok(());
        }
        self.offer(Entity::Card, |w| card::find(w, place, &number))?;
        self.offer(Entity::MyNumber, |w| my_number::find(w, place, &number))?;
        self.offer(Entity::Ssn, |w| ssn::find(w, place, &number))?;
        self.offer(Entity::Phone, |w| phone::find(w, place, &number))
    }

    fn offer(
        &mut self,
        entity: Entity,
        find: impl FnOnce(&Window<'a>) -> Result<Option<usize>, More>,
    ) -> Result<(), More> {
        if self.wanted.contains(entity)
            && let Some(end) = find(&self.window)?
        {
            let better = self
                .best
                .is_none_or(|best| best.end < end || best.end == end && entity < best.entity);
            if better {
                self.best = Some(Match { entity, end });
            }
        }
        Ok(())
    }
}

/// No digit stands before across a point, or across a point or dash when `dash` says so: the number
/// is not the tail of a longer one (0.4111…, 12-090-…).
pub(crate) fn begins_number(window: &Window<'_>, place: usize, dash: bool) -> bool {
    match window.before(place) {
        Some((b'.', begin)) => !digit_before(window, begin),
        Some((b'-', begin)) if dash => !digit_before(window, begin),
        _ => true,
    }
}

fn digit_before(window: &Window<'_>, place: usize) -> bool {
    window.before(place).is_some_and(|(symbol, _)| symbol.is_ascii_digit())
}

#[cfg(test)]
mod tests;
