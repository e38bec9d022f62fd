//! Files and the environment of the host.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use internlm_core::code_executor::{CodeRequest, CodeStatus};

use super::support::{LONG, names, printed, python, refused, sandbox};

#[test]
fn files_of_the_host_are_not_there() {
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".into());
    let executable = std::env::current_exe().unwrap();
    refused(&[
        ("open('/etc/shadow').read()", "ENOENT"),
        ("open('/etc/passwd').read()", "ENOENT"),
        ("open('/etc/hostname').read()", "ENOENT"),
        ("os.listdir('/root')", "ENOENT"),
        ("os.listdir('/home')", "ENOENT"),
        ("os.listdir('/var')", "ENOENT"),
        (&format!("os.listdir({home:?})"), "ENOENT"),
        (&format!("open({executable:?}).read()"), "ENOENT"),
        ("open('/dev/mem')", "ENOENT"),
        ("open('/dev/tty')", "ENOENT"),
        ("open('/dev/vda')", "ENOENT"),
        ("open('/dev/kmsg')", "ENOENT"),
    ]);
}

#[test]
fn a_canary_that_everyone_may_change_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let canary = folder.path().join("canary");
    fs::write(&canary, "alive").unwrap();
    fs::set_permissions(&canary, fs::Permissions::from_mode(0o666)).unwrap();
    let (folder_name, name) = (folder.path(), &canary);
    refused(&[
        (&format!("open({name:?}).read()"), "ENOENT"),
        (&format!("open({name:?}, 'w').write('dead')"), "ENOENT"),
        (&format!("os.unlink({name:?})"), "ENOENT"),
        (&format!("open('/work/../..' + {name:?}).read()"), "ENOENT"),
        (&format!("os.link({name:?}, '/work/x')"), "ENOENT"),
        (
            &format!("os.symlink({name:?}, '/work/link') or open('/work/link').read()"),
            "ENOENT",
        ),
        (&format!("os.mkdir({folder_name:?} + '/new')"), "ENOENT"),
    ]);
    assert_eq!(fs::read(&canary).unwrap(), b"alive");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn there_is_no_proc_to_escape_through() {
    refused(&[
        ("os.listdir('/proc')", "ENOENT"),
        ("os.listdir('/proc/1/root')", "ENOENT"),
        ("os.listdir('/proc/self/fd')", "ENOENT"),
        ("open('/proc/self/mem', 'rb+')", "ENOENT"),
        ("open('/proc/1/environ').read()", "ENOENT"),
        ("open('/proc/sys/kernel/core_pattern', 'w')", "ENOENT"),
        ("open('/proc/sysrq-trigger', 'w')", "ENOENT"),
        ("os.listdir('/sys')", "ENOENT"),
        (
            "syscall(165, *[ctypes.cast(ctypes.c_char_p(b), ctypes.c_void_p).value for b in (b'proc', b'/work', b'proc')], 0, 0)",
            if cfg!(target_arch = "x86_64") {
                "EPERM"
            } else {
                "ENOSYS"
            },
        ),
    ]);
}

#[test]
fn nothing_but_the_folder_can_be_written() {
    let interpreter = printed("import sys; print(sys.executable, end='')");
    refused(&[
        ("open('/new', 'w')", "EACCES|EROFS"),
        ("open('/run/main.py', 'a')", "EACCES|EROFS"),
        ("os.mkdir('/etc/new')", "EACCES|EROFS"),
        ("os.unlink('/run/main.py')", "EACCES|EROFS"),
        (&format!("open({interpreter:?}, 'r+b')"), "EACCES|EROFS"),
        ("open(os.__file__, 'a')", "EACCES|EROFS"),
        (
            "open(os.path.dirname(os.__file__) + '/new.py', 'w')",
            "EACCES|EROFS",
        ),
        ("os.chmod(os.__file__, 0o777)", "EROFS"),
        ("os.utime(os.__file__)", "EROFS"),
        ("os.rename('/work', '/elsewhere')", "EACCES|EROFS"),
        ("os.mknod('/work/disk', 0o60666, os.makedev(8, 0))", "EPERM"),
        ("os.chown('/work', 0, 0)", "EPERM|EINVAL"),
    ]);
}

#[test]
fn folders_that_hold_nothing_to_run_are_not_listed() {
    refused(&[
        ("os.listdir('/')", "EACCES"),
        ("os.listdir('/dev')", "EACCES"),
        ("os.listdir('/etc')", "EACCES"),
        ("os.listdir('/usr')", "EACCES"),
    ]);
    assert_eq!(
        printed(
            "import os; print(*map(os.listdir, ('/work', '/tmp', '/dev/shm', '/run')), os.getcwd())"
        ),
        "[] [] [] ['main.py'] /work\n"
    );
    assert_eq!(
        printed(
            "open('/dev/null', 'w').write('x'); print(open('/dev/zero', 'rb').read(2), len(open('/dev/urandom', 'rb').read(3)))"
        ),
        "b'\\x00\\x00' 3\n"
    );
}

#[test]
fn the_environment_is_our_own() {
    // `cargo test` sets it, so there is something to leak.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let names = printed("import os; print(*sorted(os.environ))");
    assert_eq!(
        names.trim(),
        "HOME LANG LOGNAME MKL_NUM_THREADS MPLBACKEND MPLCONFIGDIR OMP_NUM_THREADS \
         OPENBLAS_NUM_THREADS PATH TERM USER"
    );
    let config = super::support::config().with_env("MINE", "given");
    let sandbox = internlm_agent::sandbox::Sandbox::new(config).unwrap();
    let request = CodeRequest::new(
        "python",
        "import os; print(len(os.environ), os.environ['MINE'])",
    )
    .with_timeout(LONG);
    assert_eq!(
        sandbox.execute(&request).unwrap().output.stdout,
        "12 given\n"
    );
}

#[test]
fn files_that_the_host_left_open_are_closed() {
    let file = File::open("/etc/passwd").unwrap();
    // Without close-on-exec: any child of this process inherits it.
    let leaked = rustix::io::dup(&file).unwrap();
    let open = printed(
        "import os\n\
         def is_open(fd):\n    \
             try: os.fstat(fd)\n    \
             except OSError: return False\n    \
             return True\n\
         print([fd for fd in range(3, 1024) if is_open(fd)])",
    );
    drop(leaked);
    assert_eq!(open, "[]\n");
}

#[test]
fn files_come_back_and_links_do_not() {
    let run = python(
        "import os\n\
         open('plain.txt', 'w').write('kept')\n\
         os.mkdir('deep'); open('deep/er.txt', 'w').write('too')\n\
         os.symlink('/etc/passwd', 'link')\n\
         os.symlink('/etc', 'way')\n\
         os.symlink('plain.txt', 'near')\n\
         os.symlink('/proc/self/environ', 'magic')\n\
         os.link('plain.txt', 'hard')\n",
    );
    assert_eq!(run.output.status, CodeStatus::Exited(0), "{:?}", run.output);
    let listed = run.folder.list().unwrap();
    assert_eq!(names(&listed), ["deep/er.txt", "hard", "plain.txt"]);
    for path in [
        "link",
        "way/passwd",
        "near",
        "magic",
        "../etc/passwd",
        "/etc/passwd",
    ] {
        assert!(run.folder.read(path, 1 << 20).is_err(), "{path}");
    }
    let target = tempfile::tempdir().unwrap();
    assert_eq!(run.folder.copy_to(target.path(), 100).unwrap().len(), 3);
    assert_eq!(fs::read(target.path().join("deep/er.txt")).unwrap(), b"too");
}

#[test]
fn a_readable_folder_is_readable_and_no_more() {
    let folder = tempfile::Builder::new()
        .prefix("with a blank ")
        .tempdir()
        .unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let data = folder.path().join("data.txt");
    fs::write(&data, "rows").unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o666)).unwrap();
    let config = super::support::config().with_readable(folder.path());
    let sandbox = internlm_agent::sandbox::Sandbox::new(config).unwrap();
    let code = format!(
        "print(open({data:?}).read())\n\
         try: open({data:?}, 'w')\n\
         except OSError as error: print(error.errno)",
    );
    let request = CodeRequest::new("python", code).with_timeout(LONG);
    let output = sandbox.execute(&request).unwrap().output;
    assert_eq!(
        output.stdout,
        format!("rows\n{}\n", libc::EROFS),
        "{output:?}"
    );
    assert_eq!(fs::read(&data).unwrap(), b"rows");
}

#[test]
fn python_finds_no_programs_unless_they_are_made_readable() {
    let code = "import subprocess\n\
                try: print(subprocess.run(['ls', '/work'], capture_output=True).returncode)\n\
                except OSError as error: print(error.errno)";
    assert_eq!(printed(code), format!("{}\n", libc::ENOENT));
    let config = super::support::config()
        .with_readable("/bin")
        .with_readable("/usr/bin");
    let sandbox = internlm_agent::sandbox::Sandbox::new(config).unwrap();
    let request = CodeRequest::new("python", code).with_timeout(LONG);
    assert_eq!(sandbox.execute(&request).unwrap().output.stdout, "0\n");
}

#[test]
fn a_folder_of_hostile_names_is_listed() {
    let run = sandbox()
        .execute(&CodeRequest::new(
            "python",
            "import os\nopen(b'/work/\\xff\\n', 'w').close()\nopen('/work/' + 'n' * 255, 'w').close()\n\
             os.mkdir('/work/closed', 0o000)",
        ))
        .unwrap();
    assert_eq!(run.output.status, CodeStatus::Exited(0), "{:?}", run.output);
    assert_eq!(run.folder.list().unwrap().len(), 2);
}
