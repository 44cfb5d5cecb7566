//! Ten thousand calls at once.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spiderpool_lab::{Namespace, wait_for};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::JoinSet;

use crate::client::{Connection, Reply};
use crate::rig::{ADDRESSES, POOL, Rig, request};

const CALLS: usize = 10_000;

/// Every call by a connection of its own, as the programs do; all of them begin before the first one ends.
fn at_once(rig: &Rig, verb: &'static str, sandbox: &Namespace) -> Result<Vec<Reply>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let socket: PathBuf = rig.node().daemon().socket().to_owned();
    let messages = (0..CALLS).map(|number| request(&format!("c{number}"), sandbox)).collect::<Result<Vec<_>>>()?;
    runtime.block_on(async {
        let mut calls = JoinSet::new();
        for message in messages {
            let socket = socket.clone();
            calls.spawn(async move { Connection::open(&socket).await?.cni(verb, &message).await });
        }
        let mut replies = Vec::new();
        while let Some(reply) = calls.join_next().await {
            replies.push(reply?.with_context(|| format!("{verb}, after {} answers", replies.len()))?);
        }
        Ok(replies)
    })
}

/// As many ADDs as there are addresses get one, the others hear why not, all DELs end; a daemon that may open few files
/// serves them all, and its memory does not grow with their number.
#[test]
fn ten_thousand_calls_at_once() -> Result<()> {
    let rig = Rig::start(&["prlimit", "--nofile=1024:1024"], &["--cooldown", "0", "--budget", "60"])?;
    let sandbox = rig.node().sandbox("a")?;
    let (mut given, mut refused) = (BTreeSet::new(), 0);
    for reply in at_once(&rig, "Add", &sandbox)? {
        match reply {
            Reply::Result(text) => {
                let result: Value = serde_json::from_str(&text)?;
                let address = result["ips"][0]["address"].as_str().context("no address")?.to_owned();
                ensure!(given.insert(address), "given twice: {result}");
            }
            Reply::Error(text) => {
                let error: Value = serde_json::from_str(&text)?;
                let message = error["msg"].as_str().unwrap_or_default();
                let clear = ["no free address: pool large: 7680 leased here", "too many ADD calls are under way"];
                ensure!(error["code"] == 11 && clear.iter().any(|words| message.contains(words)), "{error}");
                refused += 1;
            }
        }
    }
    ensure!(given.len() as u128 == ADDRESSES, "{} addresses were given, {refused} refused", given.len());
    let adds = rig.memory()?;
    for reply in at_once(&rig, "Del", &sandbox)? {
        ensure!(matches!(&reply, Reply::Result(text) if text.is_empty()), "{reply:?}");
    }
    wait_for("every address to be free", Duration::from_secs(20), || {
        let counts = rig.lab.inspect(rig.node()).counts(POOL)?;
        Ok((counts.in_use == 0 && counts.free == counts.total).then_some(()))
    })?;
    let dels = rig.memory()?;
    println!("{adds} KiB after the ADDs, {dels} KiB after the DELs");
    ensure!(dels < 192 << 10 && dels < adds + adds / 2, "{adds} KiB, then {dels} KiB");
    Ok(())
}
