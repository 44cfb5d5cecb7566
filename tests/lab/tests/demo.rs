//! The demo is a test: each of its checks ends it with another exit status.

use anyhow::{Result, ensure};
use std::process::Command;

#[test]
fn the_demo_shows_what_it_says() -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_demo")).output()?;
    let shown = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the demo ended with {}\n{shown}{log}", output.status);
    // A demo that checked nothing would end as well.
    let checks = shown.lines().filter(|line| line.trim_start().starts_with("ok ")).count();
    ensure!(checks >= 30, "only {checks} checks:\n{shown}");
    Ok(())
}
