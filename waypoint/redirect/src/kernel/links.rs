//! The six hooks: attached to the cgroup by links that are pinned, so that the end of the agent
//! changes nothing; replaced within the link, so that no connect meets none.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::CgroupSockAddr;

use super::sys;

/// A hook of the kernel that one program of ours is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    /// Its name, that of the link's pin too.
    pub(crate) name: &'static str,
    /// Our program's name in the object.
    pub(crate) program: &'static str,
    /// `enum bpf_attach_type`.
    pub(crate) number: u32,
}

const fn hook(name: &'static str, program: &'static str, number: u32) -> Hook {
    Hook { name, program, number }
}

/// getpeername first: no connect is redirected before its answer can be right.
pub(crate) const HOOKS: [Hook; 6] = [
    hook("getpeername4", "wp_peername4", 29),
    hook("getpeername6", "wp_peername6", 30),
    hook("connect4", "wp_connect4", 10),
    hook("connect6", "wp_connect6", 11),
    hook("sendmsg4", "wp_sendmsg4", 14),
    hook("sendmsg6", "wp_sendmsg6", 15),
];

/// What was done to a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The link holds this very program already.
    Kept,
    /// The program in the link was replaced.
    Replaced,
    /// There was no link, or none of this cgroup.
    Attached,
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Done::Kept => "kept",
            Done::Replaced => "replaced",
            Done::Attached => "attached",
        })
    }
}

/// Our side of one hook.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) hook: Hook,
    program: OwnedFd,
    /// The program that is to be in the link: ours, or an older agent's that is the same.
    expected: u32,
    pin: PathBuf,
}

impl Attachment {
    /// Loads the program: from here on the verifier has agreed.
    pub(crate) fn load(
        object: &mut Ebpf,
        hook: Hook,
        folder: &Path,
    ) -> Result<Attachment, aya::programs::ProgramError> {
        let program = load(object, hook)?;
        let info = sys::program_info(&program)?;
        Ok(Attachment { hook, program, expected: info.id, pin: folder.join(hook.name) })
    }

    /// Sees to it that the program is on the cgroup.
    pub(crate) fn ensure(&mut self, cgroup: &File, id: u64) -> io::Result<Done> {
        let link = match sys::pinned(&self.pin) {
            Ok(link) => link,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.attach(cgroup, &self.pin)?;
                return Ok(Done::Attached);
            }
            Err(error) => return Err(error),
        };
        let info = sys::link_info(&link)?;
        if info.cgroup != id || info.hook != self.hook.number {
            // Another cgroup: the new link is there before the old one goes.
            let beside = self.pin.with_file_name(format!("{}-new", self.hook.name));
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {} // an agent was killed at this very place
            }
            self.attach(cgroup, &beside)?;
            fs::rename(&beside, &self.pin)?;
            sys::detach(&link)?;
            return Ok(Done::Attached);
        }
        let own = sys::program_info(&self.program)?;
        if info.program == own.id || self.is_same(info.program, &own) {
            self.expected = info.program;
            return Ok(Done::Kept);
        }
        sys::replace(&link, &self.program)?;
        self.expected = own.id;
        Ok(Done::Replaced)
    }

    fn attach(&self, cgroup: &File, pin: &Path) -> io::Result<()> {
        let link = sys::link(&self.program, cgroup, self.hook.number)?;
        sys::pin(&link, pin)
    }

    /// Whether that program has our code and our maps. Without CAP_SYS_ADMIN the kernel does not
    /// say; then it is replaced, which harms nobody.
    fn is_same(&self, id: u32, own: &sys::ProgramInfo) -> bool {
        let other = sys::program(id).and_then(|program| sys::program_info(&program));
        other.is_ok_and(|other| {
            other.tag == own.tag && other.name == own.name && other.maps == own.maps
        })
    }

    /// What is wrong with the link, if anything.
    pub(crate) fn drift(&self, cgroup: u64) -> io::Result<Option<String>> {
        let name = self.hook.name;
        let link = match sys::pinned(&self.pin) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(format!("the link of {name} is gone")));
            }
            link => link?,
        };
        let info = sys::link_info(&link)?;
        let wrong = if info.cgroup != cgroup {
            format!("the link of {name} is not on our cgroup")
        } else if info.program != self.expected {
            let (found, expected) = (info.program, self.expected);
            format!("the link of {name} has program {found}, expected {expected}")
        } else {
            return Ok(None);
        };
        Ok(Some(wrong))
    }
}

/// Loads the program of a hook.
pub(crate) fn load(object: &mut Ebpf, hook: Hook) -> Result<OwnedFd, aya::programs::ProgramError> {
    use std::os::fd::AsFd;
    let program = object.program_mut(hook.program).expect("the object has a program for each hook");
    let program: &mut CgroupSockAddr = program.try_into()?;
    program.load()?;
    Ok(program.fd()?.as_fd().try_clone_to_owned()?)
}
