//! The guest's linear memory, with every pointer checked.
//!
//! A pointer that the guest made up is its mistake, not its end: outside its memory is status 6.

use crate::status::Status;

fn range(memory: &[u8], ptr: u32, len: u32) -> Result<std::ops::Range<usize>, Status> {
    let start = usize::try_from(ptr).map_err(|_| Status::InvalidMemoryAccess)?;
    let len = usize::try_from(len).map_err(|_| Status::InvalidMemoryAccess)?;
    let end = start.checked_add(len).ok_or(Status::InvalidMemoryAccess)?;
    if end <= memory.len() { Ok(start..end) } else { Err(Status::InvalidMemoryAccess) }
}

/// `len` bytes at `ptr`; no bytes at any pointer are fine.
pub(crate) fn read(memory: &[u8], ptr: u32, len: u32) -> Result<&[u8], Status> {
    if len == 0 {
        return Ok(&[]);
    }
    Ok(&memory[range(memory, ptr, len)?])
}

pub(crate) fn write(memory: &mut [u8], ptr: u32, bytes: &[u8]) -> Result<(), Status> {
    let len = u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess)?;
    let range = range(memory, ptr, len)?;
    memory[range].copy_from_slice(bytes);
    Ok(())
}

pub(crate) fn read_u32(memory: &[u8], ptr: u32) -> Result<u32, Status> {
    let mut word = [0; 4];
    word.copy_from_slice(read(memory, ptr, 4)?);
    Ok(u32::from_le_bytes(word))
}

pub(crate) fn write_u32(memory: &mut [u8], ptr: u32, value: u32) -> Result<(), Status> {
    write(memory, ptr, &value.to_le_bytes())
}

pub(crate) fn write_u64(memory: &mut [u8], ptr: u32, value: u64) -> Result<(), Status> {
    write(memory, ptr, &value.to_le_bytes())
}
