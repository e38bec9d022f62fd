//! The folder that tools stay in.

use std::fs;
use std::sync::{Arc, Barrier};

use internlm_agent::tool::ToolError;
use internlm_agent::tools::Root;

#[track_caller]
fn denied<T: std::fmt::Debug>(result: Result<T, ToolError>) {
    assert!(
        matches!(result, Err(ToolError::Denied { .. })),
        "{result:?}"
    );
}

#[test]
fn files_come_and_go() {
    let place = tempfile::tempdir().unwrap();
    let root = Root::open(place.path()).unwrap();
    root.write("a.txt", b"one, and long").unwrap();
    root.write("./a.txt", b"two").unwrap();
    root.write("sub/deep/b.txt", b"three").unwrap();
    assert_eq!(root.read("a.txt", 3).unwrap(), b"two");
    assert_eq!(root.read("sub/../a.txt", 3).unwrap(), b"two");
    assert_eq!(root.read("sub/deep/b.txt", 5).unwrap(), b"three");
    let limit = root.read("a.txt", 2).unwrap_err();
    assert!(matches!(limit, ToolError::Limit { .. }), "{limit}");
    assert_eq!(limit.to_string(), "`a.txt` has more than 2 bytes");
    for (path, want) in [
        ("none.txt", "there is no `none.txt`"),
        ("sub", "`sub` is no regular file"),
        ("", "`.` is no regular file"),
        ("a.txt/b", "`a.txt/b` is no folder, or goes through a file"),
    ] {
        assert_eq!(root.read(path, 9).unwrap_err().to_string(), want);
    }
    for path in ["sub", "sub/", "", ".", "a.txt/b"] {
        assert!(root.write(path, b"x").is_err(), "{path}");
    }
    assert!(root.read("a\0b", 9).is_err());
    assert!(root.write("a\0b", b"x").is_err());
    // No draft is left beside them.
    let names = fs::read_dir(place.path()).unwrap();
    assert_eq!(names.count(), 2);
}

#[test]
#[cfg(unix)]
fn no_path_leads_out() {
    use std::os::unix::fs::symlink;

    let outer = tempfile::tempdir().unwrap();
    let (inside, outside) = (outer.path().join("in"), outer.path().join("out"));
    fs::create_dir(&inside).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "canary").unwrap();
    fs::create_dir(inside.join("sub")).unwrap();
    fs::write(inside.join("sub/file"), "mine").unwrap();
    symlink(outside.join("secret"), inside.join("link")).unwrap();
    symlink("../out/secret", inside.join("relative")).unwrap();
    symlink(&outside, inside.join("way")).unwrap();
    symlink("way", inside.join("twice")).unwrap();
    symlink("sub/file", inside.join("good")).unwrap();
    symlink("loop", inside.join("loop")).unwrap();
    let root = Root::open(&inside).unwrap();
    let absolute = outside.join("secret");
    for path in [
        "link",
        "relative",
        "way/secret",
        "twice/secret",
        "../out/secret",
        "sub/../../out/secret",
        absolute.to_str().unwrap(),
        "/etc/passwd",
    ] {
        denied(root.read(path, 100));
    }
    assert!(root.read("loop", 100).is_err());
    // A link that stays inside may be read, and is not replaced.
    assert_eq!(root.read("good", 100).unwrap(), b"mine");
    for path in [
        "way/new",
        "twice/new/folder",
        "../out/new",
        "/new",
        "sub/../../out/new",
    ] {
        denied(root.write(path, b"x"));
    }
    for path in ["link", "relative", "way", "good", "loop"] {
        assert!(root.write(path, b"x").is_err(), "{path}");
    }
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"canary");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 2);
}

/// A folder that becomes a link while it is used never leads out.
#[test]
#[cfg(target_os = "linux")]
fn a_folder_that_turns_into_a_link_is_no_way_out() {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    let outer = tempfile::tempdir().unwrap();
    let (inside, outside) = (outer.path().join("in"), outer.path().join("out"));
    fs::create_dir_all(inside.join("turn")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(inside.join("turn/file"), "mine").unwrap();
    fs::write(outside.join("file"), "canary").unwrap();
    symlink(&outside, inside.join("link")).unwrap();
    let root = Root::open(&inside).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let start = Arc::new(Barrier::new(2));
    let turning = {
        let (done, start, inside) = (Arc::clone(&done), Arc::clone(&start), inside.clone());
        std::thread::spawn(move || {
            start.wait();
            while !done.load(Ordering::Relaxed) {
                for (from, to) in [
                    ("turn", "rest"),
                    ("link", "turn"),
                    ("turn", "link"),
                    ("rest", "turn"),
                ] {
                    fs::rename(inside.join(from), inside.join(to)).unwrap();
                    // So that the other thread meets all of them.
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
        })
    };
    start.wait();
    let (mut mine, mut others) = (0, 0);
    let end = Instant::now() + Duration::from_secs(60);
    while (mine < 100 || others < 100) && Instant::now() < end {
        match root.read("turn/file", 100) {
            Ok(bytes) => {
                assert_eq!(bytes, b"mine");
                mine += 1;
            }
            Err(_) => others += 1,
        }
    }
    done.store(true, Ordering::Relaxed);
    turning.join().unwrap();
    assert!(mine > 0 && others > 0, "{mine} {others}");
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"canary");
}

#[test]
#[cfg(unix)]
fn what_is_no_file_is_not_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(place.path().join("pipe"))
        .status();
    assert!(made.unwrap().success());
    let root = Root::open(place.path()).unwrap();
    let error = root.read("pipe", 100).unwrap_err();
    assert_eq!(error.to_string(), "`pipe` is no regular file");
    assert!(root.write("pipe", b"x").is_err());
}

#[test]
#[cfg(unix)]
fn a_file_that_is_replaced_keeps_its_permissions() {
    use std::os::unix::fs::PermissionsExt;

    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("run.sh");
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o750)).unwrap();
    Root::open(place.path())
        .unwrap()
        .write("run.sh", b"new")
        .unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o750
    );
}

#[test]
fn a_reader_sees_the_old_file_or_the_new_one() {
    let place = tempfile::tempdir().unwrap();
    let root = Root::open(place.path()).unwrap();
    let versions = [vec![b'a'; 100_000], vec![b'b'; 70_000]];
    root.write("file", &versions[0]).unwrap();
    let writer = {
        let (root, versions) = (root.clone(), versions.clone());
        std::thread::spawn(move || {
            for version in versions.iter().cycle().take(40) {
                root.write("file", version).unwrap();
            }
        })
    };
    while !writer.is_finished() {
        let bytes = root.read("file", 1 << 20).unwrap();
        assert!(versions.contains(&bytes), "{} bytes", bytes.len());
    }
    writer.join().unwrap();
}
