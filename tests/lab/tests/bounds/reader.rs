//! A client that asks and asks, and reads no answer.

use anyhow::{Context, Result, ensure};
use spiderpool_lab::{Namespace, Stopwatch};
use std::time::Duration;

use crate::client::{Connection, number};
use crate::rig::{Rig, config, request};

const HOLDERS: usize = 2000;
/// As many as one connection may have under way.
const PAGES: usize = 200;

async fn fill(connection: &Connection, sandbox: &Namespace) -> Result<()> {
    for holder in 0..HOLDERS {
        connection.cni("Add", &request(&format!("c{holder}"), sandbox)?).await?;
    }
    Ok(())
}

/// Calls go on while the largest pages wait to be read, and the memory for them does not add up.
#[test]
fn a_slow_reader_of_inspect_holds_nobody_up() -> Result<()> {
    let rig = Rig::start(&[], &[])?;
    let (sandbox, other) = (rig.node().sandbox("a")?, rig.node().sandbox("b")?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let socket = rig.node().daemon().socket().to_owned();
    runtime.block_on(async { fill(&Connection::open(&socket).await?, &sandbox).await })?;
    let mut largest_page = Vec::new();
    number(&mut largest_page, 1, 1000);
    let mut after = Vec::new();
    for turn in 0..4 {
        let unread = runtime.block_on(async {
            let connection = Connection::open(&socket).await?;
            let mut unread = Vec::new();
            for _ in 0..PAGES {
                unread.push(connection.send("Inspect/ListAllocations", &largest_page).await?);
            }
            // It began to answer, so it has made up its mind about all of them soon.
            let first = unread.pop().context("no call")?.await?;
            ensure!(first.status() == 200, "{first:?}");
            Ok((connection, unread, first))
        })?;
        let stopwatch = Stopwatch::start();
        let container = format!("late-{turn}");
        let shim = rig.node().shim("spiderpool").container(&container).sandbox(&other);
        let shim = shim.pod("default", &container, &container);
        shim.call("ADD", config())?.result()?;
        shim.call("DEL", config())?.silent()?;
        ensure!(stopwatch.elapsed() < Duration::from_secs(8), "a call took {:?}", stopwatch.elapsed());
        after.push(rig.memory()?);
        drop(unread);
    }
    println!("KiB with {PAGES} pages unread: {after:?}");
    ensure!(after[3] < 192 << 10 && after[3] < after[0] + after[0] / 2, "{after:?} KiB");
    Ok(())
}
