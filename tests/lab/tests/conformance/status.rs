//! STATUS, and what the programs do while no daemon serves.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use spiderpool_lab::Stopwatch;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::Duration;

use crate::rig::{Rig, address, example_pool, network};

#[test]
fn status_speaks_of_the_daemon_alone() -> Result<()> {
    let rig = Rig::without_daemon()?;
    let config = network("1.1.0", &json!({}));
    let both = ["spiderpool", "coordinator"].map(|program| rig.node().shim(program));
    for shim in &both {
        let stopwatch = Stopwatch::start();
        shim.call("STATUS", &config)?.error(50, &["spiderpool.sock"])?;
        ensure!(stopwatch.elapsed() < Duration::from_secs(1), "STATUS should not wait: {:?}", stopwatch.elapsed());
    }
    rig.node().daemon().start()?;
    for shim in &both {
        shim.call("STATUS", &config)?.silent()?;
    }
    // No pools, no coordinator: still fit to serve.
    for name in ["pool.yaml", "coordinator.yaml"] {
        rig.node().standalone().remove(name)?;
    }
    rig.logged(&["Withdrew"])?;
    for shim in &both {
        shim.call("STATUS", &config)?.silent()?;
    }
    rig.node().daemon().kill()?;
    both[0].call("STATUS", &config)?.error(50, &["spiderpool.sock"])?;
    Ok(())
}

#[test]
fn an_add_waits_for_a_daemon_that_starts() -> Result<()> {
    let rig = Rig::without_daemon()?;
    let sandbox = rig.node().sandbox("a")?;
    let answer = thread::scope(|scope| -> Result<_> {
        let caller = scope.spawn(|| rig.ipam("c", &sandbox).call("ADD", example_pool()));
        thread::sleep(Duration::from_millis(400));
        ensure!(!caller.is_finished(), "it should wait");
        rig.node().daemon().start()?;
        caller.join().map_err(|_| anyhow::anyhow!("the caller panicked"))?
    })?;
    ensure!(address(&answer.result()?)? == "10.6.212.145");
    Ok(())
}

/// The settings file names the socket: whoever may write it could answer for the daemon.
#[test]
fn settings_that_others_may_write_are_refused() -> Result<()> {
    let rig = Rig::start()?;
    let sandbox = rig.node().sandbox("a")?;
    let file = rig.node().cni_bin().join("spidernet-cni.json");
    let shim = rig.ipam("c", &sandbox);
    for (path, mode) in [(file.clone(), 0o666), (file.clone(), 0o620), (rig.node().cni_bin(), 0o777)] {
        let before = fs::metadata(&path)?.permissions();
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        for verb in ["ADD", "DEL", "STATUS"] {
            shim.call(verb, network("1.1.0", &json!({})))?.error(7, &["writable by others than root"])?;
        }
        fs::set_permissions(&path, before)?;
    }
    std::os::unix::fs::chown(&file, Some(65534), None)?;
    shim.call("ADD", example_pool())?.error(7, &["65534"])?;
    std::os::unix::fs::chown(&file, Some(0), None)?;
    fs::write(&file, "{\"socket\": \"relative\"}")?;
    shim.call("ADD", example_pool())?.error(7, &["spidernet-cni.json", "socket"])?;
    ensure!(rig.inspect().allocations()?.is_empty() && rig.spooled()?.is_empty());
    Ok(())
}

/// Design 8: the socket is for root alone.
#[test]
fn the_socket_is_for_root_alone() -> Result<()> {
    let rig = Rig::start()?;
    let socket = rig.node().daemon().socket();
    let mode = |path: &std::path::Path| -> Result<u32> { Ok(fs::metadata(path)?.permissions().mode() & 0o777) };
    ensure!(mode(socket)? == 0o600, "{:o}", mode(socket)?);
    let folder = socket.parent().expect("a folder");
    ensure!(mode(folder)? == 0o700, "{:o}", mode(folder)?);
    // Even with folder and socket thrown open, another user is refused.
    let open = [rig.lab.folder(), &rig.lab.folder().join("worker01"), folder, socket];
    for path in open {
        fs::set_permissions(path, Permissions::from_mode(0o777))?;
    }
    let program = spiderpool_lab::Program::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&rig.lab.tools().grpcurl)
        .args(["-plaintext", "-unix"])
        .arg(socket)
        .arg("spiderpool.node.v1.Inspect/GetNode");
    let finished = rig.node().namespace().run(&program)?;
    ensure!(!finished.status.success(), "uid 65534 was served: {}", finished.stdout);
    // It was the daemon that refused, not the file system on the way to the client.
    ensure!(finished.stderr.contains("65534 may not call"), "{}{}", finished.stdout, finished.stderr);
    Ok(())
}

/// A hostile environment and a large configuration reach the daemon or are refused, within bounds.
#[test]
fn a_configuration_of_a_megabyte_is_the_largest() -> Result<()> {
    let rig = Rig::start()?;
    let sandbox = rig.node().sandbox("a")?;
    let sized = |size: usize| {
        let mut config = example_pool();
        config["padding"] = Value::from("x".repeat(size));
        config
    };
    rig.ipam("c", &sandbox).call("ADD", sized((1 << 20) - 500))?.result()?;
    rig.ipam("c", &sandbox).call("ADD", sized(1 << 20))?.error(6, &["1 MiB"])?;
    Ok(())
}
