//! The host functions.
use std::collections::HashMap;
use wasmtime::{FuncType, Linker};
use crate::vm::VmState;
pub(crate) struct Imports {
    pub(crate) linker: Linker<VmState>,
    pub(crate) types: HashMap<(String, String), FuncType>,
}
pub(crate) fn link(engine: &wasmtime::Engine) -> wasmtime::Result<Imports> {
    Ok(Imports { linker: Linker::new(engine), types: HashMap::new() })
}
