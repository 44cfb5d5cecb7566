//! Allocations, or plans, in bulk, by the daemon's own API: many callers at once share its commits, so that a million
//! come about as they would one by one, only sooner.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use nix::time::{ClockId, clock_gettime};
use spiderpool_proto::node::cni_client::CniClient;
use spiderpool_proto::node::cni_reply::Outcome;
use spiderpool_proto::node::{CniRequest, Plugin, Stamp};
use tokio::task::JoinSet;
use tonic::transport::Endpoint;

/// Connections that the calls share.
const CONNECTIONS: usize = 4;

/// Who asks for addresses: a network, and one namespace that all its attachments are in.
#[derive(Clone, Debug)]
pub(crate) struct Filler {
    pub(crate) socket: PathBuf,
    pub(crate) netns: PathBuf,
    /// The network's configuration.
    pub(crate) config: String,
    /// Which of the programs.
    pub(crate) plugin: Plugin,
}

impl Filler {
    /// ADD for the attachments with these numbers, some of them at a time.
    ///
    /// # Errors
    /// The first call that failed.
    pub(crate) fn fill(&self, numbers: Range<usize>, at_a_time: usize) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        runtime.block_on(self.calls(numbers, at_a_time))
    }

    async fn calls(&self, numbers: Range<usize>, at_a_time: usize) -> Result<()> {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read this boot's ID")?;
        let boot_id = boot_id.trim();
        let (next, end) = (Arc::new(AtomicUsize::new(numbers.start)), numbers.end);
        let mut callers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let endpoint = Endpoint::from_shared(format!("unix://{}", self.socket.display())).context("a socket")?;
            let client = CniClient::new(endpoint.connect().await.context("connect to the daemon")?);
            for _ in 0..at_a_time / CONNECTIONS {
                let (mut client, next, filler, boot_id) =
                    (client.clone(), Arc::clone(&next), self.clone(), boot_id.to_owned());
                callers.spawn(async move {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= end {
                            return Ok(());
                        }
                        let reply = client.add(filler.request(number, &boot_id)?).await.context("call ADD")?;
                        match reply.into_inner().outcome {
                            Some(Outcome::Result(_)) => {}
                            outcome => bail!("ADD number {number} answered {outcome:?}"),
                        }
                    }
                });
            }
        }
        while let Some(ended) = callers.join_next().await {
            ended.context("a caller ended early")??;
        }
        Ok(())
    }

    /// Names as long as a runtime's.
    fn request(&self, number: usize, boot_id: &str) -> Result<CniRequest> {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).context("read the boot clock")?;
        let boottime_ns = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
        let container = format!("{number:064x}");
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=filled-{number};\
             K8S_POD_INFRA_CONTAINER_ID={container};K8S_POD_UID=00000000-0000-4000-8000-{number:012}"
        );
        Ok(CniRequest {
            plugin: self.plugin.into(),
            container_id: container,
            netns: self.netns.display().to_string(),
            interface: "net1".to_owned(),
            args,
            path: String::new(),
            started: Some(Stamp { boot_id: boot_id.to_owned(), boottime_ns }),
            config: self.config.clone(),
        })
    }
}
