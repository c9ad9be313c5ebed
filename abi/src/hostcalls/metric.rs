//! Metrics that the guest defines.

use crate::{
    hostcalls::{Definitions, Guest, hostcall},
    memory,
    status::Status,
};

pub(super) fn link(imports: &mut Definitions) -> wasmtime::Result<()> {
    hostcall!(imports, DefineMetric, define, (kind: u32, name: u32, name_len: u32, to_id: u32));
    hostcall!(imports, RecordMetric, record, (id: u32, value: i64));
    hostcall!(imports, IncrementMetric, increment, (id: u32, offset: i64));
    hostcall!(imports, GetMetric, get, (id: u32, to: u32));
    Ok(())
}

fn define(
    guest: &mut Guest<'_>,
    kind: u32,
    name: u32,
    name_len: u32,
    to_id: u32,
) -> Result<(), Status> {
    let name = memory::read(guest.memory, name, name_len)?;
    let (id, seen) = guest.state.core.shared.define_metric(kind, name)?;
    if !seen {
        guest.state.warn_once("metric_series is reached: a metric that nobody sees was given");
    }
    memory::write_u32(guest.memory, to_id, id)
}

fn record(guest: &mut Guest<'_>, id: u32, value: i64) -> Result<(), Status> {
    guest.state.core.shared.record_metric(id, value.cast_unsigned())
}

fn increment(guest: &mut Guest<'_>, id: u32, offset: i64) -> Result<(), Status> {
    guest.state.core.shared.increment_metric(id, offset)
}

fn get(guest: &mut Guest<'_>, id: u32, to: u32) -> Result<(), Status> {
    let value = guest.state.core.shared.get_metric(id)?;
    memory::write_u64(guest.memory, to, value)
}
