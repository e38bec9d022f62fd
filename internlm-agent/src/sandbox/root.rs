//! The root inside: nothing but the interpreter and its libraries, read-only, and the code's own folder.
//!
//! There is no `/proc`: what it would show of other processes, it can't leak, and a container that
//! hides parts of its own doesn't let an ordinary user mount another.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, mount_remount, unmount,
};

use super::layers::Layer;
use super::outer::{Failure, failure};
use super::spec::{FOLDER, SCRIPTS, Spec};

/// Devices that are there.
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];
/// What may be written inside; all of it is one file system with one limit.
pub(crate) const WRITABLE: [&str; 3] = [FOLDER, "/tmp", "/dev/shm"];

const LAYER: Layer = Layer::MountNamespace;

/// Builds the root, with a folder of that user, and moves into it.
pub(crate) fn build(spec: &Spec, user: u32) -> Result<(), Failure> {
    // What is mounted here must not show up outside, nor the other way round.
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(failure(LAYER, "private mounts"))?;
    let root = place(spec).ok_or((Some(LAYER), "no place for a new root".to_owned()))?;
    let script = spec.program.as_ref().map(|program| &program.script);
    let bytes = (1 << 20) + script.map_or(0, |(_, text)| text.len());
    tmpfs(&root, &format!("mode=755,nr_inodes=4096,size={bytes}"))
        .map_err(failure(LAYER, "a new root"))?;

    // First, for a readable folder may lie in `/tmp`.
    writable(&root, spec, user).map_err(failure(LAYER, "the folder"))?;
    for path in spec.mounts.iter().map(PathBuf::as_path) {
        bind(&root, path).map_err(failure(LAYER, &format!("mounting {}", path.display())))?;
    }
    for device in DEVICES.iter().map(Path::new).filter(|path| path.exists()) {
        bind(&root, device).map_err(failure(LAYER, &format!("mounting {}", device.display())))?;
    }
    for (path, target) in &spec.links {
        let path = within(&root, path);
        if path.symlink_metadata().is_err() {
            make_parent(&path)
                .and_then(|()| symlink(target, &path))
                .map_err(failure(LAYER, "a link"))?;
        }
    }
    if let Some((name, text)) = script {
        let folder = within(&root, Path::new(SCRIPTS));
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join(name), text))
            .map_err(failure(LAYER, "the script"))?;
    }
    read_only(&root).map_err(failure(LAYER, "read-only mounts"))?;

    rustix::process::chdir(&root)
        .and_then(|()| rustix::process::pivot_root(".", "."))
        .and_then(|()| unmount(".", UnmountFlags::DETACH))
        .and_then(|()| rustix::process::chdir("/"))
        .map_err(failure(LAYER, "pivot_root"))
}

/// A folder of the host that nothing to be mounted lies below, to put the new root on.
fn place(spec: &Spec) -> Option<PathBuf> {
    ["/sys", "/mnt", "/media", "/srv", "/tmp"]
        .into_iter()
        .map(PathBuf::from)
        .find(|place| place.is_dir() && !spec.mounts.iter().any(|path| path.starts_with(place)))
}

/// A path of the inside, as seen before the move.
fn within(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn make_parent(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn tmpfs(path: &Path, options: &str) -> std::io::Result<()> {
    let options = CString::new(options)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount("tmpfs", path, "tmpfs", flags, options.as_c_str())?)
}

/// Mounts a folder or a file of the host at its own path.
fn bind(root: &Path, path: &Path) -> std::io::Result<()> {
    let target = within(root, path);
    if path.is_dir() {
        fs::create_dir_all(&target)?;
    } else {
        make_parent(&target)?;
        if target.symlink_metadata().is_err() {
            File::create(&target)?;
        }
    }
    // Recursive, for what an outer namespace mounted below can't be uncovered by an inner one.
    Ok(mount_bind_recursive(path, &target)?)
}

/// One file system with a limit, seen at each writable path.
fn writable(root: &Path, spec: &Spec, user: u32) -> std::io::Result<()> {
    let data = within(root, Path::new("/run/data"));
    fs::create_dir_all(&data)?;
    let limits = &spec.limits;
    tmpfs(
        &data,
        &format!(
            "mode=755,size={},nr_inodes={}",
            limits.disk_bytes,
            limits.files.saturating_add(8)
        ),
    )?;
    for (index, path) in WRITABLE.iter().enumerate() {
        let part = data.join(index.to_string());
        fs::create_dir(&part)?;
        rustix::fs::chown(&part, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)))?;
        let target = within(root, Path::new(path));
        fs::create_dir_all(&target)?;
        mount_bind(&part, &target)?;
    }
    unmount(&data, UnmountFlags::DETACH)?;
    fs::remove_dir(&data)
}

/// Makes every mount below the new root, and the root, read-only, but for the writable ones.
fn read_only(root: &Path) -> std::io::Result<()> {
    let writable: Vec<PathBuf> = WRITABLE
        .iter()
        .map(|p| within(root, Path::new(p)))
        .collect();
    let devices: Vec<PathBuf> = DEVICES.iter().map(|p| within(root, Path::new(p))).collect();
    for (point, options) in mounts_below(root)? {
        if writable.contains(&point) {
            continue;
        }
        // Flags that an outer namespace set are locked: leaving them out is refused.
        let mut flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID;
        flags |= match devices.contains(&point) {
            true => MountFlags::NOEXEC,
            false => MountFlags::NODEV,
        };
        for option in options.split(',') {
            flags |= match option {
                "nodev" => MountFlags::NODEV,
                "noexec" => MountFlags::NOEXEC,
                "noatime" => MountFlags::NOATIME,
                "nodiratime" => MountFlags::NODIRATIME,
                "relatime" => MountFlags::RELATIME,
                _ => MountFlags::empty(),
            };
        }
        // A device with `nodev` could not be opened; where that is locked there is no device anyway.
        mount_remount(&point, flags, c"")?;
    }
    Ok(())
}

/// Mount points of the topmost mount at a path and of those on it, with their options. What was
/// mounted there before lies hidden below, and is in the table all the same.
fn mounts_below(root: &Path) -> std::io::Result<Vec<(PathBuf, String)>> {
    let table = fs::read("/proc/self/mountinfo")?;
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u64>().ok();
    let mut all = Vec::new();
    for line in table.split(|byte| *byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        if let [id, parent, _, _, point, options, ..] = fields[..]
            && let (Some(id), Some(parent)) = (number(id), number(parent))
        {
            all.push((id, parent, unescape(point), options));
        }
    }
    let parents: BTreeMap<u64, u64> = all.iter().map(|(id, parent, ..)| (*id, *parent)).collect();
    let at_root = all
        .iter()
        .filter(|(_, _, point, _)| point == root)
        .map(|(id, ..)| *id);
    // The topmost one is nobody's parent at the same path.
    let at_root: Vec<u64> = at_root.collect();
    let top = at_root
        .iter()
        .find(|id| {
            !at_root
                .iter()
                .any(|above| parents.get(above) == Some(id) && above != *id)
        })
        .copied()
        .ok_or(std::io::ErrorKind::NotFound)?;
    let on_top = |mut id: u64| {
        for _ in 0..all.len() {
            if id == top {
                return true;
            }
            match parents.get(&id) {
                Some(parent) => id = *parent,
                None => return false,
            }
        }
        false
    };
    Ok(all
        .iter()
        .filter(|(id, ..)| on_top(*id))
        .map(|(_, _, point, options)| {
            (point.clone(), String::from_utf8_lossy(options).into_owned())
        })
        .collect())
}

/// A path of the mount table, where blanks and the like are `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;

    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    after @ ..,
                ],
            ) => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_mount_table_are_decoded() {
        assert_eq!(unescape(b"/a\\040b/\\134c"), Path::new("/a b/\\c"));
        assert_eq!(unescape(b"/a\\9\\04"), Path::new("/a\\9\\04"));
    }

    #[test]
    fn the_mount_table_has_the_root() {
        let all = mounts_below(Path::new("/")).unwrap();
        assert!(all.iter().any(|(point, _)| point == Path::new("/")));
    }
}
