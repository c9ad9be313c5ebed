//! Header maps: read until the stream ends, written until they leave.

use bytes::Bytes;

use crate::{
    headers::Headers,
    hostcalls::{Definitions, Guest, giving, hostcall},
    hygiene::{self, Complaint, MapKind, Write},
    limits::Limits,
    memory,
    pairs::{decode_pairs, encode_pairs},
    state::VmState,
    status::{Direction, Status},
};

pub(super) fn link(imports: &mut Definitions) -> wasmtime::Result<()> {
    hostcall!(imports, MapSize, map_size, (map: u32, to: u32));
    giving!(imports, GetPairs, get_pairs, (map; to_ptr, to_len;));
    hostcall!(imports, SetPairs, set_pairs, (map: u32, ptr: u32, len: u32));
    giving!(imports, GetValue, get_value, (map, key, key_len; to_ptr, to_len;));
    hostcall!(imports, ReplaceValue, replace_value,
        (map: u32, key: u32, key_len: u32, value: u32, value_len: u32));
    hostcall!(imports, AddValue, add_value,
        (map: u32, key: u32, key_len: u32, value: u32, value_len: u32));
    hostcall!(imports, RemoveValue, remove_value, (map: u32, key: u32, key_len: u32));
    Ok(())
}

#[derive(Clone, Copy)]
enum Map {
    Head(Direction),
    Trailers(Direction),
    /// gRPC's, which are never there.
    None,
    CallHead,
    CallTrailers,
}

impl Map {
    fn from_wire(map: u32) -> Result<Self, Status> {
        Ok(match map {
            0 => Self::Head(Direction::Request),
            1 => Self::Trailers(Direction::Request),
            2 => Self::Head(Direction::Response),
            3 => Self::Trailers(Direction::Response),
            4 | 5 => Self::None,
            6 => Self::CallHead,
            7 => Self::CallTrailers,
            _ => return Err(Status::BadArgument),
        })
    }

    fn kind(self) -> MapKind {
        match self {
            Self::Head(Direction::Request) => MapKind::Request,
            Self::Head(Direction::Response) => MapKind::Response,
            _ => MapKind::Plain,
        }
    }
}

/// The lines of a map; `None` if it is not there (yet). A clone shares them.
fn lines(state: &VmState, map: Map) -> Option<Headers> {
    match map {
        Map::Head(direction) => state.here.as_ref()?.state.lock().side(direction).head().cloned(),
        Map::Trailers(direction) => {
            state.here.as_ref()?.state.lock().side(direction).trailers().cloned()
        }
        Map::None => None,
        Map::CallHead => Some(state.answer.as_ref()?.headers.clone()),
        Map::CallTrailers => Some(state.answer.as_ref()?.trailers.clone()),
    }
}

fn map_size(guest: &mut Guest<'_>, map: u32, to: u32) -> Result<(), Status> {
    let lines = lines(guest.state, Map::from_wire(map)?).unwrap_or_default();
    let size: usize = lines.iter().map(|(name, value)| name.len() + value.len()).sum();
    memory::write_u32(guest.memory, to, u32::try_from(size).unwrap_or(u32::MAX))
}

/// A map that is not there is empty: anything but OK would end most guests.
fn get_pairs(guest: &mut Guest<'_>, map: u32) -> Result<Bytes, Status> {
    let map = Map::from_wire(map)?;
    let Some(lines) = lines(guest.state, map) else {
        guest.state.warn_once("a header map was read that is not there: empty");
        return Ok(Bytes::new());
    };
    Ok(encode_pairs(&lines))
}

fn get_value(guest: &mut Guest<'_>, map: u32, key: u32, key_len: u32) -> Result<Bytes, Status> {
    let map = Map::from_wire(map)?;
    let key = memory::read(guest.memory, key, key_len)?;
    let name = hygiene::name_of(map.kind(), key);
    let name = std::str::from_utf8(&name).map_err(|_| Status::NotFound)?;
    let lines = lines(guest.state, map).ok_or(Status::NotFound)?;
    lines.get(name).cloned().ok_or(Status::NotFound)
}

fn set_pairs(guest: &mut Guest<'_>, map: u32, ptr: u32, len: u32) -> Result<(), Status> {
    let map = Map::from_wire(map)?;
    let pairs = memory::read(guest.memory, ptr, len)?;
    let fresh = decode_pairs(pairs).ok_or(Status::ParseFailure)?;
    write(guest.state, map, |kind, headers, limits| hygiene::set(kind, headers, &fresh, limits));
    Ok(())
}

fn replace_value(
    guest: &mut Guest<'_>,
    map: u32,
    key: u32,
    key_len: u32,
    value: u32,
    value_len: u32,
) -> Result<(), Status> {
    write_value(guest, map, Write::Replace, (key, key_len), (value, value_len))
}

fn add_value(
    guest: &mut Guest<'_>,
    map: u32,
    key: u32,
    key_len: u32,
    value: u32,
    value_len: u32,
) -> Result<(), Status> {
    write_value(guest, map, Write::Add, (key, key_len), (value, value_len))
}

fn write_value(
    guest: &mut Guest<'_>,
    map: u32,
    how: Write,
    key: (u32, u32),
    value: (u32, u32),
) -> Result<(), Status> {
    let map = Map::from_wire(map)?;
    let key = memory::read(guest.memory, key.0, key.1)?;
    let value = memory::read(guest.memory, value.0, value.1)?;
    write(guest.state, map, |kind, headers, limits| {
        hygiene::write(kind, headers, how, key, value, limits)
    });
    Ok(())
}

fn remove_value(guest: &mut Guest<'_>, map: u32, key: u32, key_len: u32) -> Result<(), Status> {
    let map = Map::from_wire(map)?;
    let key = memory::read(guest.memory, key, key_len)?;
    write(guest.state, map, |kind, headers, _| hygiene::remove(kind, headers, key));
    Ok(())
}

/// Writes a map that the guest holds. What cannot be done is warned of and passes for done.
fn write(
    state: &VmState,
    map: Map,
    how: impl FnOnce(MapKind, &mut Headers, &Limits) -> Result<(), Complaint>,
) {
    const LATE: Complaint = "a header map was written that the filter does not hold: not done";
    let limits = &state.core.spec.limits;
    let written = match (&state.here, map) {
        (Some(context), Map::Head(direction)) => {
            let mut stream = context.state.lock();
            let head = stream.side(direction).head_mut();
            head.map_or(Err(LATE), |headers| how(map.kind(), headers, limits))
        }
        (Some(context), Map::Trailers(direction)) => {
            let mut stream = context.state.lock();
            let trailers = stream.side(direction).trailers_mut();
            trailers.map_or(Err(LATE), |headers| how(map.kind(), headers, limits))
        }
        _ => Err(LATE),
    };
    if let Err(complaint) = written {
        state.warn_once(complaint);
    }
}
