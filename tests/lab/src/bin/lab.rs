//! Builds the example cluster, daemons and `net1` included, and keeps it until Ctrl-C, to look around by hand.

use anyhow::{Context, Result};
use spiderpool_lab::{Chain, Lab, Namespace, SilentListener, example};
use std::io::{self, Write};

fn main() -> Result<()> {
    let lab = Lab::start()?;
    for node in lab.nodes() {
        node.daemon().start()?;
    }
    let dns = lab.pod("controller", example::coredns())?;
    let _listener = SilentListener::start(dns.namespace(), example::SERVICE_PORT)?;
    let pods = [lab.pod("worker01", example::nginx_rswak())?, lab.pod("controller", example::nginx_aswpm())?, dns];
    for pod in pods.iter().take(2) {
        pod.add(&Chain::overlay(), "net1", &[])?;
    }
    let topology = lab.topology();
    let world = [&topology.segment, &topology.gateway, &topology.router, &topology.far, &topology.outside];
    let nodes = lab.nodes().iter().map(|node| node.namespace());
    let mut out = io::stdout().lock();
    writeln!(out, "folder: {}", lab.folder().display())?;
    for namespace in world.into_iter().chain(nodes).chain(pods.iter().map(|pod| pod.namespace())) {
        writeln!(out, "{:<26} {}", namespace.name(), entrance(namespace)?)?;
    }
    writeln!(out, "Ctrl-C takes it all down.")?;
    out.flush()?;
    loop {
        std::thread::park();
    }
}

/// The command line of a shell that sees what the namespace's programs see.
fn entrance(namespace: &Namespace) -> Result<String> {
    let mounts = namespace.launcher().mounts().with_context(|| format!("mounts of {}", namespace.name()))?;
    Ok(format!("nsenter --mount={mounts} --net={}", namespace.reference()))
}
