//! The least of WASI that language runtimes start with.
//!
//! There are no files, sockets or arguments. Standard output and error are lines of the log. Each
//! function stands under `wasi_snapshot_preview1` and `wasi_unstable`.
//!
//! # Source
//!
//! The answers of proxy-wasm-cpp-host's `exports.cc`.

use std::time::Duration;

use wasmtime::{Caller, FuncType, Val, ValType};

use crate::{
    hostcalls::{Definitions, Guest, Import, enter, log::unix_nanoseconds, with_guest},
    memory,
    state::{Halt, VmState},
    status::{LogLevel, Status},
};

const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

const OK: i32 = 0;
const BADF: i32 = 8;
const FAULT: i32 = 21;
const INVAL: i32 = 28;
const NOENT: i32 = 44;
const NOSYS: i32 = 52;
const NOTSUP: i32 = 58;
const NOTCAPABLE: i32 = 76;

/// The most random bytes for one call.
const RANDOM_BYTES_MAX: u32 = 64 << 10;
/// The most pieces of one write.
const PIECES_MAX: u32 = 1_024;

/// Functions that only answer: name, parameters, answer.
const STUBS: &[(&str, &str, i32)] = &[
    ("sched_yield", "", OK),
    ("fd_close", "i", OK),
    ("fd_seek", "iIii", OK),
    ("fd_prestat_get", "ii", BADF),
    ("fd_prestat_dir_name", "iii", NOSYS),
    ("fd_read", "iiii", NOSYS),
    ("fd_pread", "iiiIi", NOSYS),
    ("fd_pwrite", "iiiIi", NOSYS),
    ("fd_readdir", "iiiIi", NOSYS),
    ("fd_fdstat_set_flags", "ii", NOSYS),
    ("fd_fdstat_set_rights", "iII", NOSYS),
    ("fd_filestat_get", "ii", NOSYS),
    ("fd_filestat_set_size", "iI", NOSYS),
    ("fd_filestat_set_times", "iIIi", NOSYS),
    ("fd_advise", "iIIi", NOSYS),
    ("fd_allocate", "iII", NOSYS),
    ("fd_datasync", "i", NOSYS),
    ("fd_sync", "i", NOSYS),
    ("fd_tell", "ii", NOSYS),
    ("fd_renumber", "ii", NOSYS),
    ("path_open", "iiiiiIIii", NOENT),
    ("path_create_directory", "iii", NOTSUP),
    ("path_filestat_get", "iiiii", NOTSUP),
    ("path_filestat_set_times", "iiiiIIi", NOTSUP),
    ("path_link", "iiiiiii", NOTSUP),
    ("path_readlink", "iiiiii", NOTSUP),
    ("path_remove_directory", "iii", NOTSUP),
    ("path_rename", "iiiiii", NOTSUP),
    ("path_symlink", "iiiii", NOTSUP),
    ("path_unlink_file", "iii", NOTSUP),
    ("clock_res_get", "ii", NOTSUP),
    ("proc_raise", "i", NOSYS),
    ("sock_accept", "iii", NOSYS),
    ("sock_recv", "iiiiii", NOSYS),
    ("sock_send", "iiiii", NOSYS),
    ("sock_shutdown", "ii", NOSYS),
];

/// Functions that do something: their bodies read the guest's memory.
type Body = fn(&mut Guest<'_>, &[Val]) -> Result<i32, Status>;

const FUNCTIONS: &[(Import, &str, Body)] = &[
    (Import::FdWrite, "iiii", fd_write),
    (Import::ClockTime, "iIi", clock_time_get),
    (Import::Random, "ii", random_get),
    (Import::EnvironSizes, "ii", environ_sizes_get),
    (Import::Environ, "ii", environ_get),
    (Import::ArgsSizes, "ii", args_sizes_get),
    (Import::Args, "ii", |_, _| Ok(OK)),
    (Import::Poll, "iiii", poll_oneoff),
    (Import::FdstatGet, "ii", fd_fdstat_get),
];

pub(super) fn link(imports: &mut Definitions) -> wasmtime::Result<()> {
    for module in MODULES {
        for &(import, params, body) in FUNCTIONS {
            define(imports, module, import.name(), params, import, body)?;
        }
        for &(name, params, errno) in STUBS {
            let stub = move |_: &mut Guest<'_>, _: &[Val]| Ok(errno);
            define(imports, module, name, params, Import::WasiStub, stub)?;
        }
        imports.describe_as(module, Import::ProcExit.name(), vec![ValType::I32], vec![]);
        imports.linker.func_wrap(module, Import::ProcExit.name(), proc_exit)?;
    }
    link_emscripten(imports)
}

/// What emscripten's runtime wants beside WASI.
fn link_emscripten(imports: &mut Definitions) -> wasmtime::Result<()> {
    let env = super::ENV;
    imports.describe_as(env, "emscripten_notify_memory_growth", vec![ValType::I32], vec![]);
    imports.linker.func_wrap(env, "emscripten_notify_memory_growth", |_: u32| ())?;
    imports.describe_as(env, "pthread_equal", vec![ValType::I32; 2], vec![ValType::I32]);
    imports.linker.func_wrap(env, "pthread_equal", |a: u32, b: u32| u32::from(a == b))?;
    Ok(())
}

fn define(
    imports: &mut Definitions,
    module: &str,
    name: &str,
    params: &str,
    import: Import,
    body: impl Fn(&mut Guest<'_>, &[Val]) -> Result<i32, Status> + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    let wide = |c| if c == 'I' { ValType::I64 } else { ValType::I32 };
    let params: Vec<ValType> = params.chars().map(wide).collect();
    imports.describe_as(module, name, params.clone(), vec![ValType::I32]);
    let ty = FuncType::new(imports.linker.engine(), params, vec![ValType::I32]);
    imports.linker.func_new(module, name, ty, move |mut caller, arguments, results| {
        let errno = if enter(caller.data_mut(), import)?.is_some() {
            NOTCAPABLE
        } else {
            let answered = with_guest(&mut caller, |guest| body(guest, arguments));
            // A pointer outside memory is all that can go wrong.
            answered.unwrap_or(Err(Status::InvalidMemoryAccess)).unwrap_or(FAULT)
        };
        results[0] = Val::I32(errno);
        Ok(())
    })?;
    Ok(())
}

fn proc_exit(mut caller: Caller<'_, VmState>, code: u32) -> wasmtime::Result<()> {
    enter(caller.data_mut(), Import::ProcExit)?;
    Err(Halt::Exit(code).into())
}

/// The i32 argument at `index`; the types were checked when the module was linked.
fn arg(arguments: &[Val], index: usize) -> u32 {
    arguments.get(index).and_then(Val::i32).unwrap_or(0).cast_unsigned()
}

fn fd_write(guest: &mut Guest<'_>, arguments: &[Val]) -> Result<i32, Status> {
    let (fd, pieces, count, to) =
        (arg(arguments, 0), arg(arguments, 1), arg(arguments, 2), arg(arguments, 3));
    let (stream, level) = match fd {
        1 => (0, LogLevel::Info),
        2 => (1, LogLevel::Error),
        _ => return Ok(BADF),
    };
    if PIECES_MAX < count {
        return Ok(INVAL);
    }
    let mut written = 0_u32;
    for index in 0..count {
        let piece = pieces.checked_add(index * 8).ok_or(Status::InvalidMemoryAccess)?;
        let ptr = memory::read_u32(guest.memory, piece)?;
        let len_at = piece.checked_add(4).ok_or(Status::InvalidMemoryAccess)?;
        let len = memory::read_u32(guest.memory, len_at)?;
        print(guest.state, stream, level, memory::read(guest.memory, ptr, len)?);
        written = written.saturating_add(len);
    }
    memory::write_u32(guest.memory, to, written)?;
    Ok(OK)
}

/// Keeps what is printed until its line ends: runtimes write panics in fragments.
fn print(state: &mut VmState, stream: usize, level: LogLevel, text: &[u8]) {
    let line_max = state.core.spec.limits.log_line_bytes;
    let mut pieces = text.split(|byte| *byte == b'\n');
    let Some(mut piece) = pieces.next() else { return };
    loop {
        let line = &mut state.output[stream];
        let room = line_max.saturating_sub(line.len());
        line.extend_from_slice(&piece[..piece.len().min(room)]);
        let Some(next) = pieces.next() else { return };
        let line = std::mem::take(line);
        // Runtimes print an empty line before a panic.
        if !line.is_empty() {
            state.core.guest_log(level, &line);
        }
        piece = next;
    }
}

fn clock_time_get(guest: &mut Guest<'_>, arguments: &[Val]) -> Result<i32, Status> {
    let now = match arg(arguments, 0) {
        0 => unix_nanoseconds(),
        1 => nanoseconds(guest.state.core.began.elapsed()),
        _ => return Ok(NOTSUP),
    };
    memory::write_u64(guest.memory, arg(arguments, 2), now)?;
    Ok(OK)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn random_get(guest: &mut Guest<'_>, arguments: &[Val]) -> Result<i32, Status> {
    let (ptr, len) = (arg(arguments, 0), arg(arguments, 1));
    if RANDOM_BYTES_MAX < len {
        return Ok(INVAL);
    }
    let mut bytes = vec![0_u8; usize::try_from(len).unwrap_or(0)];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Ok(NOSYS),
        }
    }
    memory::write(guest.memory, ptr, &bytes)?;
    Ok(OK)
}

/// The environment as `NAME=value\0`.
fn environment(state: &VmState) -> Vec<Vec<u8>> {
    let entry = |(name, value): &(String, String)| format!("{name}={value}\0").into_bytes();
    state.core.spec.environment.iter().map(entry).collect()
}

fn environ_sizes_get(guest: &mut Guest<'_>, arguments: &[Val]) -> Result<i32, Status> {
    let entries = environment(guest.state);
    let bytes: usize = entries.iter().map(Vec::len).sum();
    let word = |len| u32::try_from(len).unwrap_or(u32::MAX);
    memory::write_u32(guest.memory, arg(arguments, 0), word(entries.len()))?;
    memory::write_u32(guest.memory, arg(arguments, 1), word(bytes))?;
    Ok(OK)
}

fn environ_get(guest: &mut Guest<'_>, arguments: &[Val]) -> Result<i32, Status> {
    let (mut pointers, mut text) = (arg(arguments, 0), arg(arguments, 1));
    for entry in environment(guest.state) {
        memory::write_u32(guest.memory, pointers, text)?;
        memory::write(guest.memory, text, &entry)?;
        let len = u32::try_from(entry.len()).map_err(|_| Status::InvalidMemoryAccess)?;
        pointers = pointers.checked_add(4).ok_or(Status::InvalidMemoryAccess)?;
        text = text.checked_add(len).ok_or(Status::InvalidMemoryAccess)?;
    }
    Ok(OK)
}

fn args_sizes_get(guest: &mut Guest<'_>, arguments: &[Val]) -> Result<i32, Status> {
    memory::write_u32(guest.memory, arg(arguments, 0), 0)?;
    memory::write_u32(guest.memory, arg(arguments, 1), 0)?;
    Ok(OK)
}

/// Nothing ever happens to wait for; Go's scheduler asks.
fn poll_oneoff(guest: &mut Guest<'_>, arguments: &[Val]) -> Result<i32, Status> {
    memory::write_u32(guest.memory, arg(arguments, 3), 0)?;
    Ok(OK)
}

/// Standard output and error are character devices that may be written.
fn fd_fdstat_get(guest: &mut Guest<'_>, arguments: &[Val]) -> Result<i32, Status> {
    const CHARACTER_DEVICE: u8 = 2;
    const RIGHT_FD_WRITE: u64 = 64;
    if !matches!(arg(arguments, 0), 1 | 2) {
        return Ok(BADF);
    }
    let mut stat = [0; 24];
    stat[0] = CHARACTER_DEVICE;
    stat[8..16].copy_from_slice(&RIGHT_FD_WRITE.to_le_bytes());
    memory::write(guest.memory, arg(arguments, 1), &stat)?;
    Ok(OK)
}
