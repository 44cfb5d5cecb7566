//! What a daemon says of itself over its socket, asked with the foreign client.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::PathBuf;

use crate::namespace::Namespace;
use crate::program::{Finished, Program};

/// Asks one daemon.
#[derive(Clone, Debug)]
pub struct Inspect {
    grpcurl: PathBuf,
    node: Namespace,
    socket: PathBuf,
}

/// Counts of a pool. total = in_use + dying + cooling + quarantined + free.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[allow(missing_docs, reason = "the words of the API")]
pub struct Counts {
    pub total: u128,
    pub in_use: u128,
    pub dying: u128,
    pub cooling: u128,
    pub quarantined: u128,
    pub free: u128,
}

impl Inspect {
    pub(crate) fn new(grpcurl: PathBuf, node: Namespace, socket: PathBuf) -> Self {
        Self { grpcurl, node, socket }
    }

    /// Runs the client; `options` go before the socket's path, `rest` after it.
    ///
    /// # Errors
    /// The client could not be started. A refusal by the daemon is not an error here.
    pub fn client(&self, options: &[&str], rest: &[&str], input: &str) -> Result<Finished> {
        let program = Program::new(&self.grpcurl).args(["-plaintext", "-unix"]).args(options);
        self.node.run(&program.arg(&self.socket).args(rest).input(input))
    }

    /// Calls a method; fields that are zero or empty are in the answer too.
    ///
    /// # Errors
    /// The daemon refused.
    pub fn call(&self, method: &str, request: &Value) -> Result<Value> {
        self.client(&["-emit-defaults", "-d", "@"], &[method], &request.to_string())?.success()?.json()
    }

    /// Calls a verb of the service `Cni` and returns the result, or the CNI error, that it carries.
    ///
    /// # Errors
    /// The daemon refused, or its answer is no JSON.
    pub fn cni(&self, verb: &str, request: &Value) -> Result<Result<Value, Value>> {
        let reply = self.call(&format!("spiderpool.node.v1.Cni/{verb}"), request)?;
        let parsed = |text: &str| if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(text) };
        match (reply["result"].as_str(), reply["error"].as_str()) {
            (Some(result), None) => Ok(Ok(parsed(result)?)),
            (None, Some(error)) => Ok(Err(parsed(error)?)),
            _ => bail!("neither result nor error: {reply}"),
        }
    }

    /// All allocations, by the pages of the given size.
    ///
    /// # Errors
    /// The daemon refused.
    pub fn allocations_by(&self, page: u32) -> Result<Vec<Value>> {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let request = json!({ "page_size": page, "page_token": token });
            let reply = self.call("spiderpool.node.v1.Inspect/ListAllocations", &request)?;
            all.extend(reply["allocations"].as_array().cloned().unwrap_or_default());
            token = reply["nextPageToken"].as_str().unwrap_or_default().to_owned();
            if token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// All allocations.
    ///
    /// # Errors
    /// The daemon refused.
    pub fn allocations(&self) -> Result<Vec<Value>> {
        self.allocations_by(1000)
    }

    /// The pools as the daemon lists them.
    ///
    /// # Errors
    /// The daemon refused.
    pub fn pools(&self) -> Result<Vec<Value>> {
        let reply = self.call("spiderpool.node.v1.Inspect/ListPools", &json!({}))?;
        Ok(reply["pools"].as_array().cloned().unwrap_or_default())
    }

    /// Counts of a pool; all zero for one that is not listed.
    ///
    /// # Errors
    /// The daemon refused, or a count is no number.
    pub fn counts(&self, pool: &str) -> Result<Counts> {
        let pools = self.pools()?;
        let Some(pool) = pools.iter().find(|listed| listed["name"] == pool) else { return Ok(Counts::default()) };
        let count = |field: &str| -> Result<u128> {
            let text = pool[field].as_str().with_context(|| format!("{field} is no text: {pool}"))?;
            text.parse().with_context(|| format!("{field} is no number: {pool}"))
        };
        Ok(Counts {
            total: count("total")?,
            in_use: count("inUse")?,
            dying: count("dying")?,
            cooling: count("cooling")?,
            quarantined: count("quarantined")?,
            free: count("free")?,
        })
    }

    /// What is known of an address.
    ///
    /// # Errors
    /// The daemon refused.
    pub fn address(&self, address: impl Into<IpAddr>) -> Result<Value> {
        self.call("spiderpool.node.v1.Inspect/GetAddress", &json!({ "address": address.into().to_string() }))
    }

    /// The daemon itself.
    ///
    /// # Errors
    /// The daemon refused.
    pub fn node(&self) -> Result<Value> {
        self.call("spiderpool.node.v1.Inspect/GetNode", &json!({}))
    }
}
