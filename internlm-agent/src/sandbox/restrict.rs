//! The rights that the first process inside gives up, and with it everything that it starts.

use std::fs;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal, setrlimit};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets, Gid, Uid};

use super::config::Limits;
use super::layers::{Layer, LayerState, Layers};
use super::outer::{Failure, failure};
use super::root::WRITABLE;
use super::spec::Spec;
use super::{filter, outer};

/// Devices that may be written to.
const SINKS: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/full"];

/// Gives up everything, in the order in which each step still can. What can't be given up is noted
/// as missing.
pub(crate) fn all(
    spec: &Spec,
    folder: &Path,
    user: u32,
    own_root: bool,
    layers: &mut Layers,
) -> Result<(), Failure> {
    note(layers, Layer::Capabilities, drop_capabilities(user));
    // Not to be traced, and never to outlive the launcher. Both after the change of users, which
    // resets them.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(failure(None, "dumpable"))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(failure(None, "death signal"))?;
    // In a user namespace processes are counted anew; else with all others of the user.
    let others = match layers.holds(Layer::UserNamespace) {
        true => 0,
        false => tasks_of(rustix::process::getuid().as_raw()),
    };
    note(layers, Layer::Rlimits, limit(&spec.limits, others));
    note(
        layers,
        Layer::NoNewPrivs,
        rustix::thread::set_no_new_privs(true)
            .map(|()| String::new())
            .map_err(|error| error.to_string()),
    );
    note(layers, Layer::Landlock, landlock(spec, folder, own_root));
    note(
        layers,
        Layer::Seccomp,
        filter::install().map(|()| String::new()),
    );
    Ok(())
}

fn note(layers: &mut Layers, layer: Layer, result: Result<String, String>) {
    layers.set(
        layer,
        match result {
            Ok(version) => LayerState::Holds(version),
            Err(what) => LayerState::Missing(what),
        },
    );
}

/// Becomes that user if root, and drops every capability, out of reach of any later program.
fn drop_capabilities(user: u32) -> Result<String, String> {
    let step = |what| move |error| outer::failure(None, what)(error).1;
    rustix::thread::clear_ambient_capability_set().map_err(step("ambient set"))?;
    let effective = rustix::thread::capabilities(None)
        .map_err(step("capget"))?
        .effective;
    if effective.contains(CapabilitySet::SETPCAP) {
        for number in 0..64 {
            let one = CapabilitySet::from_bits_retain(1 << number);
            match rustix::thread::remove_capability_from_bounding_set(one) {
                Ok(()) => {}
                // Past the last one that this kernel knows.
                Err(rustix::io::Errno::INVAL) => break,
                Err(error) => return Err(step("bounding set")(error)),
            }
        }
        let bits = CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
        rustix::thread::set_capabilities_secure_bits(bits).map_err(step("secure bits"))?;
    }
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        rustix::thread::set_thread_groups(&[]).map_err(step("setgroups"))?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(step("setresgid"))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(step("setresuid"))?;
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none).map_err(step("capset"))?;
    match rustix::thread::capabilities(None) {
        Ok(left) if left == none => Ok(String::new()),
        Ok(_) => Err("some are left".into()),
        Err(error) => Err(step("capget")(error)),
    }
}

fn limit(limits: &Limits, others: u64) -> Result<String, String> {
    let all = [
        (Resource::As, limits.memory_bytes),
        (Resource::Fsize, limits.disk_bytes),
        // The launcher and this process count as well.
        (
            Resource::Nproc,
            limits.processes.saturating_add(others).saturating_add(2),
        ),
        (Resource::Nofile, limits.open_files),
        (Resource::Cpu, limits.cpu_seconds),
        (Resource::Core, 0),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
        (Resource::Rtprio, 0),
        (Resource::Nice, 0),
        (Resource::Sigpending, 256),
    ];
    for (resource, most) in all {
        // Never above what holds already.
        let most = match rustix::process::getrlimit(resource).maximum {
            Some(already) => most.min(already),
            None => most,
        };
        let both = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, both).map_err(|error| format!("{resource:?}: {error}"))?;
    }
    Ok(String::new())
}

/// Processes and threads of a user, as far as `/proc` shows them.
fn tasks_of(user: u32) -> u64 {
    let Ok(entries) = fs::read_dir("/proc") else {
        return 0;
    };
    let threads = |status: String| {
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            value.split_whitespace().next()?.parse::<u64>().ok()
        };
        (field("Uid:")? == u64::from(user)).then(|| field("Threads:"))?
    };
    entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok())
        .filter_map(threads)
        .sum()
}

/// Confines to the mounts, read-only, and the writable folders. No port, no abstract socket and no
/// process outside.
fn landlock(spec: &Spec, folder: &Path, own_root: bool) -> Result<String, String> {
    let abi = ABI::V6;
    let read = AccessFs::from_read(abi);
    let all = AccessFs::from_all(abi);
    let enforce = || -> Result<_, landlock::RulesetError> {
        let readable = spec.mounts.iter().map(|path| path.as_path());
        let scripts = own_root.then(|| Path::new(super::spec::SCRIPTS));
        let mut rules = Ruleset::default()
            .handle_access(all)?
            .handle_access(AccessNet::from_all(abi))?
            .scope(Scope::from_all(abi))?
            .create()?
            .add_rules(path_beneath_rules(readable.chain(scripts), read))?
            .add_rules(path_beneath_rules(
                ["/dev/random", "/dev/urandom"],
                AccessFs::ReadFile,
            ))?
            .add_rules(path_beneath_rules(
                SINKS,
                AccessFs::ReadFile | AccessFs::WriteFile,
            ))?
            .add_rules(path_beneath_rules([folder], all))?;
        if own_root {
            rules = rules.add_rules(path_beneath_rules(WRITABLE, all))?;
        }
        rules.restrict_self()
    };
    let status = enforce().map_err(|error| error.to_string())?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => Err("the kernel has none".into()),
        (_, LandlockStatus::Available { effective_abi, .. }) => {
            Ok(format!("ABI {}", effective_abi as i32))
        }
        _ => Ok(String::new()),
    }
}
