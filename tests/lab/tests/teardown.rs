//! What a lab leaves behind: nothing, however it ends. And what it touches outside of itself: nothing.

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use spiderpool_lab::{Folder, Lab, Launcher, Namespace, Program, example, wait_for};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// Links, addresses, routes and rules of the namespace that the test runs in, and the sysctls a lab might want.
fn machine() -> Result<BTreeMap<String, String>> {
    let mut facts = BTreeMap::new();
    for arguments in ["-d link", "-4 addr", "route show table all", "-6 route show table all", "rule", "-6 rule"] {
        let output = Command::new("ip").args(arguments.split(' ')).output().context("run ip")?;
        ensure!(output.status.success(), "ip {arguments} failed");
        // Addresses by DHCP count down, and routes by advertisements.
        let text = String::from_utf8(output.stdout)?;
        let lines = text.lines().filter(|line| !line.contains("valid_lft"));
        let lines = lines.map(|line| line.split_once(" expires ").map_or(line, |(lasting, _)| lasting));
        facts.insert(format!("ip {arguments}"), lines.collect::<Vec<_>>().join("\n"));
    }
    for key in ["ipv4/ip_forward", "ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter", "ipv6/conf/all/forwarding"]
    {
        let value = fs::read_to_string(format!("/proc/sys/net/{key}")).with_context(|| format!("read {key}"))?;
        facts.insert(key.to_owned(), value);
    }
    let mounts = fs::read_to_string("/proc/self/mounts").context("read mounts")?;
    facts.insert("mounts".to_owned(), mounts);
    facts.insert("cni".to_owned(), fs::exists("/var/lib/cni")?.to_string());
    Ok(facts)
}

#[test]
fn the_machine_stays_as_it_was() -> Result<()> {
    let before = machine()?;
    let first = Lab::start()?;
    let second = Lab::start()?;
    // Two labs with the same addresses, side by side.
    for lab in [&first, &second] {
        let pod = lab.pod("worker01", example::nginx_rswak())?;
        pod.ping(&[], example::FAR_HOST)?.success()?;
        assert_eq!(machine()?, before, "while a lab runs");
    }
    let folders = [first.folder().to_owned(), second.folder().to_owned()];
    drop((first, second));
    assert_eq!(machine()?, before, "after the labs");
    assert!(folders.iter().all(|folder| !folder.exists()), "{folders:?} should be gone");
    Ok(())
}

/// The lab as a program of its own, and a link into its segment that lives as long as the segment does.
struct Foreign {
    child: Child,
    folder: PathBuf,
    probe: Namespace,
    _place: Folder,
}

fn foreign() -> Result<Foreign> {
    // Who runs the tests in the background has SIGINT ignored, and so would the lab.
    let mut command = Command::new("env");
    let mut child = command.args(["--default-signal", env!("CARGO_BIN_EXE_lab")]).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("no output")?;
    let (mut folder, mut segment) = (None, None);
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some(path) = line.strip_prefix("folder: ") {
            folder = Some(PathBuf::from(path));
        } else if line.starts_with("segment") {
            segment = line.split_once("--net=").map(|(_, path)| path.to_owned());
        } else if line.starts_with("Ctrl-C") {
            break;
        }
    }
    let (Some(folder), Some(segment)) = (folder, segment) else { bail!("the lab did not come up") };
    let place = Folder::create()?;
    let probe = Namespace::create(&Launcher::start("probe", Vec::new())?, place.path(), "probe")?;
    probe.ip(&["link", "add", "probe", "type", "veth", "peer", "name", "probed", "netns", &segment])?;
    Ok(Foreign { child, folder, probe, _place: place })
}

fn ends_by(signal: Signal) -> Result<()> {
    let mut lab = foreign()?;
    ensure!(
        lab.folder.is_dir() && lab.probe.run(&Program::new("ip").args(["link", "show", "probe"]))?.status.success()
    );
    kill(Pid::from_raw(i32::try_from(lab.child.id())?), signal)?;
    lab.child.wait()?;
    wait_for("the lab's folder to go", PATIENCE, || Ok((!lab.folder.exists()).then_some(())))?;
    wait_for("the lab's namespaces to go", PATIENCE, || {
        let shown = lab.probe.run(&Program::new("ip").args(["link", "show", "probe"]))?;
        Ok((!shown.status.success()).then_some(()))
    })
}

#[test]
fn a_lab_that_is_interrupted_leaves_nothing() -> Result<()> {
    ends_by(Signal::SIGINT)
}

#[test]
fn a_lab_that_is_told_to_end_leaves_nothing() -> Result<()> {
    ends_by(Signal::SIGTERM)
}

#[test]
fn a_lab_that_is_killed_leaves_nothing() -> Result<()> {
    ends_by(Signal::SIGKILL)
}

#[test]
fn a_lab_whose_owner_panics_leaves_nothing() -> Result<()> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let owner = std::thread::spawn(move || {
        let lab = Lab::start().unwrap();
        sender.send(lab.folder().to_owned()).unwrap();
        panic!("as a failed assertion does");
    });
    owner.join().expect_err("the owner should panic");
    let folder = receiver.recv()?;
    ensure!(!folder.exists(), "{} should be gone", folder.display());
    Ok(())
}
