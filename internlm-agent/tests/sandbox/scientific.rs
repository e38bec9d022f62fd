//! NumPy, SymPy and Matplotlib, where they are installed.

use internlm_agent::sandbox::{CallStatus, Sandbox};
use std::path::PathBuf;
use std::process::Command;

use super::support::{LONG, config, names};

/// An interpreter that has a package: the one named by `INTERNLM_SANDBOX_NUMPY`, or the usual one. With `CI=true`
/// one must be named.
fn with_package(package: &str) -> Option<Sandbox> {
    let usual = config();
    let named = std::env::var_os("INTERNLM_SANDBOX_NUMPY").map(PathBuf::from);
    assert!(
        named.is_some() || std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "CI=true and no INTERNLM_SANDBOX_NUMPY: it names a Python with numpy, sympy and matplotlib"
    );
    let python = named.clone().or(usual.python.clone())?;
    let found = Command::new(&python)
        .args(["-I", "-c", &format!("import {package}")])
        .output()
        .is_ok_and(|output| output.status.success());
    // Whoever names one wants these tests to run.
    assert!(
        found || named.is_none(),
        "{} has no {package}",
        python.display()
    );
    if !found {
        println!(
            "skipped: {} has no {package}; INTERNLM_SANDBOX_NUMPY can name one that has",
            python.display()
        );
        return None;
    }
    Some(Sandbox::new(usual.with_python(python)).unwrap())
}

#[test]
fn numpy_works() {
    let Some(sandbox) = with_package("numpy") else {
        return;
    };
    let mut session = sandbox.session().unwrap();
    let output = session
        .call("import numpy as np\na = np.arange(10_000.).reshape(100, 100)\nfloat((a @ np.linalg.inv(a + np.eye(100) * 1e4)).trace().round(3))", LONG)
        .unwrap();
    assert_eq!(output.status, CallStatus::Finished, "{output:?}");
    let value: f64 = output.value.unwrap().parse().unwrap();
    assert!(value.is_finite());
}

#[test]
fn sympy_works() {
    let Some(sandbox) = with_package("sympy") else {
        return;
    };
    let mut session = sandbox.session().unwrap();
    let output = session
        .call(
            "from sympy import *\nx = symbols('x')\nsolve(x**2 - 2)",
            LONG,
        )
        .unwrap();
    assert_eq!(
        output.value.as_deref(),
        Some("[-sqrt(2), sqrt(2)]"),
        "{output:?}"
    );
}

#[test]
fn figures_come_back() {
    let Some(sandbox) = with_package("matplotlib") else {
        return;
    };
    let mut session = sandbox.session().unwrap();
    let output = session
        .call("import matplotlib.pyplot as plt\nplt.plot([1, 4, 9]); plt.figure(); plt.bar([1], [2])\nNone", LONG)
        .unwrap();
    assert_eq!(output.status, CallStatus::Finished, "{output:?}");
    assert_eq!(names(&output.files), ["figure-1.png", "figure-2.png"]);
    assert!(
        session
            .folder()
            .read("figure-1.png", 1 << 20)
            .unwrap()
            .starts_with(b"\x89PNG")
    );
}
