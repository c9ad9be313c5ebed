//! Log, clock, tick, effective context.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    context::Effect,
    hostcalls::{Definitions, Guest, hostcall},
    memory,
    state::ROOT,
    status::{LogLevel, Status},
};

pub(super) fn link(imports: &mut Definitions) -> wasmtime::Result<()> {
    hostcall!(imports, Log, log, (level: u32, ptr: u32, len: u32));
    hostcall!(imports, GetLogLevel, get_log_level, (to: u32));
    hostcall!(imports, GetTime, get_time, (to: u32));
    hostcall!(imports, SetTick, set_tick, (period_ms: u32));
    hostcall!(imports, SetEffectiveContext, set_effective_context, (id: u32));
    hostcall!(imports, Done, done, ());
    Ok(())
}

fn log(guest: &mut Guest<'_>, level: u32, ptr: u32, len: u32) -> Result<(), Status> {
    let level = LogLevel::from_wire(level).ok_or(Status::BadArgument)?;
    let message = memory::read(guest.memory, ptr, len)?;
    guest.state.core.guest_log(level, message);
    Ok(())
}

fn get_log_level(guest: &mut Guest<'_>, to: u32) -> Result<(), Status> {
    memory::write_u32(guest.memory, to, guest.state.core.host.log_level() as u32)
}

fn get_time(guest: &mut Guest<'_>, to: u32) -> Result<(), Status> {
    memory::write_u64(guest.memory, to, unix_nanoseconds())
}

pub(super) fn unix_nanoseconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

fn set_tick(guest: &mut Guest<'_>, period_ms: u32) -> Result<(), Status> {
    let state = &guest.state;
    state.ticks.set(period_ms, &state.vm, &state.core.host);
    Ok(())
}

/// Any live stream of this VM, or its root; the choice ends with the callback.
fn set_effective_context(guest: &mut Guest<'_>, id: u32) -> Result<(), Status> {
    let chosen = match id {
        ROOT => None,
        id => Some(Arc::clone(guest.state.streams.get(&id).ok_or(Status::BadArgument)?)),
    };
    guest.state.here = chosen;
    Ok(())
}

fn done(guest: &mut Guest<'_>) -> Result<(), Status> {
    let Some(context) = &guest.state.here else {
        if let Some(vm) = guest.state.vm.upgrade() {
            vm.root_done.notify_one();
        }
        return Ok(());
    };
    if !context.state.lock().done_pending {
        return Err(Status::NotFound);
    }
    guest.state.effects.push(Effect::Done(Arc::clone(context)));
    Ok(())
}
