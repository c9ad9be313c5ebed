//! What a callback asked for, as the ABI numbers it.

/// What a headers callback asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadAction {
    Continue,
    /// Hold the head; whether body callbacks run meanwhile is the operator's choice.
    Pause,
    /// Hold the head and let nothing come.
    StopAll,
}

/// What a body or trailers callback asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyAction {
    Continue,
    /// Keep what was seen and show it again with what comes.
    Buffer,
    /// As `Buffer`, but stop the sender at the bound instead of failing.
    Watermark,
    /// Forget what was seen.
    Discard,
}

impl HeadAction {
    /// 2 is Envoy's long removed `ContinueAndEndStream`, here a plain `Continue`.
    pub(crate) fn from_wire(action: u32) -> Self {
        match action {
            0 | 2 => Self::Continue,
            1 => Self::Pause,
            _ => Self::StopAll,
        }
    }
}

impl BodyAction {
    pub(crate) fn from_wire(action: u32) -> Self {
        match action {
            0 => Self::Continue,
            1 => Self::Buffer,
            2 => Self::Watermark,
            _ => Self::Discard,
        }
    }
}
