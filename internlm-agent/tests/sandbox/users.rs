//! The same tests as another user.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::support::{LAUNCHER, printed};

#[test]
fn the_user_inside_is_nobody_of_the_host() {
    assert_eq!(
        printed(
            "import os; print(os.getresuid(), os.getresgid(), sorted(set(os.getgroups()) - {1000, 65534}))"
        ),
        "(1000, 1000, 1000) (1000, 1000, 1000) []\n"
    );
}

#[test]
fn all_this_holds_for_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: this is the ordinary user; only root can become another");
        return;
    }
    let nobody = 65534;
    let this = std::env::current_exe().unwrap();
    let reachable = |program: &str| {
        Command::new("test")
            .args(["-x", program])
            .uid(nobody)
            .gid(nobody)
            .status()
            .is_ok_and(|s| s.success())
    };
    if !reachable(LAUNCHER) || !reachable("/usr/bin/python3") {
        println!("skipped: an ordinary user can't reach {LAUNCHER} or /usr/bin/python3");
        return;
    }
    let output = Command::new(this)
        .args(["--skip", "all_this_holds_for_an_ordinary_user"])
        .env("HOME", "/nonexistent")
        .env("INTERNLM_SANDBOX_PYTHON", "/usr/bin/python3")
        // An interpreter of the checkout may be out of the other user's reach, so those tests may be skipped.
        .env_remove("INTERNLM_SANDBOX_NUMPY")
        .env_remove("CI")
        .current_dir("/")
        .uid(nobody)
        .gid(nobody)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(!text.contains(" 0 passed"), "{text}");
}
