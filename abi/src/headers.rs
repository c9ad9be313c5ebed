//! The header list that crosses the border between embedder and guest.

use std::sync::Arc;

use bytes::Bytes;

/// An ordered list of header lines.
///
/// **Shape**: pseudo-headers first (`:method`, `:path`, `:authority`, `:scheme`; `:status`), then
/// the other lines in the order of the wire; names are lower-case, a name may repeat. A clone
/// shares the lines; the first write after it copies them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    lines: Arc<Vec<(Bytes, Bytes)>>,
}

impl Headers {
    /// What a line costs on the wire beside its name and value: `": "` and CR LF.
    pub const LINE_OVERHEAD_BYTES: usize = 4;

    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty list with room for `lines` lines.
    #[must_use]
    pub fn with_capacity(lines: usize) -> Self {
        Self { lines: Arc::new(Vec::with_capacity(lines)) }
    }

    /// Appends one line. The caller gives the name in lower case.
    pub fn push(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        Arc::make_mut(&mut self.lines).push((name.into(), value.into()));
    }

    /// The first value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.get_all(name).next()
    }

    /// Every value of `name`, in order.
    pub fn get_all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Bytes> {
        self.lines.iter().filter(move |(n, _)| n == name.as_bytes()).map(|(_, value)| value)
    }

    /// Every line, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Bytes, &Bytes)> {
        self.lines.iter().map(|(name, value)| (name, value))
    }

    /// Sets `name` to one value: in the place of its first line, or at the end.
    pub fn replace(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (name, value) = (name.into(), value.into());
        let lines = Arc::make_mut(&mut self.lines);
        let Some(first) = lines.iter().position(|(n, _)| *n == name) else {
            lines.push((name, value));
            return;
        };
        lines[first].1 = value;
        let mut index = 0;
        lines.retain(|(n, _)| {
            index += 1;
            index <= first + 1 || *n != name
        });
    }

    /// Removes every line of `name`; says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        if self.get(name).is_none() {
            return false;
        }
        Arc::make_mut(&mut self.lines).retain(|(n, _)| n != name.as_bytes());
        true
    }

    /// How many lines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is no line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// What the lines cost on the wire of HTTP/1, in bytes.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        self.lines.iter().map(|(n, v)| n.len() + v.len() + Self::LINE_OVERHEAD_BYTES).sum()
    }
}

impl<N: Into<Bytes>, V: Into<Bytes>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(lines: I) -> Self {
        Self { lines: Arc::new(lines.into_iter().map(|(n, v)| (n.into(), v.into())).collect()) }
    }
}
