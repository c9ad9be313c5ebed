//! One VM.
pub(crate) struct VmState {}
