//! The launcher as a program of its own, for hosts that can't call `sandbox::init` first thing.

fn main() -> std::process::ExitCode {
    internlm_agent::sandbox::init();
    // Reached only if nobody started it as a launcher.
    std::process::ExitCode::FAILURE
}
