//! Probes of an ADD: between the addresses that the node gave and the answer.
//!
//! What a stranger uses is quarantined and the ADD gets the next; a gateway that does not answer fails it. Where nothing
//! can be said (the interface comes later, or has no carrier) the ADD goes on: a broken probe keeps no Pod from starting.
//! Only an address from quarantine is not given out unheard.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use spiderpool_cni::failpoint::{Point, reach};
use spiderpool_cni::types::{CniError, Code};
use spiderpool_core::node::attachment::{Allocation, Netns};
use spiderpool_core::node::event::{Event, Probed, Reply, Verdict};
use spiderpool_core::plan::Mac;
use spiderpool_core::world::{Probes, World};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{given_up_on, refusal};
use crate::call::{Call, Failure};
use crate::keeper::Keeper;
use crate::metrics::ProbeMetrics;
use crate::net::{self, Findings, Place, Question};

/// Asks the segment of an interface about what it is given.
#[derive(Clone)]
pub(crate) struct Prober {
    /// The state.
    pub keeper: Keeper,
    /// What the flags switch on.
    pub probes: Probes,
    /// Where the host's procfs is mounted.
    pub proc: PathBuf,
    /// Figures.
    pub metrics: ProbeMetrics,
}

/// What a probe came to.
pub(super) enum Outcome {
    /// The addresses can be answered.
    Fit,
    /// All that was given is given back; these are strangers', if any.
    Taken(BTreeMap<IpAddr, Mac>),
}

impl Prober {
    /// What is to be probed: what the flags or the cluster's settings switch on.
    pub(super) fn switched_on(&self, world: &World) -> Probes {
        world.coordinator.as_ref().map_or(self.probes, |coordinator| self.probes.or(coordinator.probes))
    }

    /// Probes what an ADD was given, and has the node act on what was found.
    pub(super) async fn probe(
        &self,
        call: &Call,
        netns: &Netns,
        allocations: &[Allocation],
        probes: Probes,
        cancelled: &CancellationToken,
    ) -> Result<Outcome, Failure> {
        let suspect = allocations.iter().any(|allocation| allocation.stranger.is_some());
        if !probes.any() && !suspect {
            return Ok(Outcome::Fit);
        }
        let question = |of: &Allocation| Question {
            address: of.address,
            conflict: probes.conflict,
            gateway: of.terms.gateway.filter(|_| probes.gateway),
        };
        let questions: Vec<Question> = allocations.iter().map(question).collect();
        let place = Place { netns: netns.clone(), interface: call.who.interface.to_string(), new: true };
        let heard = self.ask(place, &questions, &call.pod.name, cancelled).await;
        reach(Point::IpamAddProbed);
        let (given_up, deaf) = (cancelled.is_cancelled(), heard.is_none() || !probes.conflict);
        let Findings { taken, silent } = heard.unwrap_or_default();
        let fit = taken.is_empty() && silent.is_empty() && !given_up && !(suspect && deaf);
        let verdict = if fit { Verdict::Fit } else { Verdict::Unfit(taken.clone()) };
        let (who, started) = (call.who.clone(), call.started);
        let addresses = allocations.iter().map(|allocation| allocation.address).collect();
        let probed = |ticket| Event::Probed(Box::new(Probed { ticket, who, started, addresses, verdict }));
        if let Reply::Refused(refused) = self.keeper.call(probed).await? {
            return Err(refusal(&refused).into());
        }
        for (address, mac) in &taken {
            let (pod, interface) = (&call.pod.name, &call.who.interface);
            warn!(%address, used_by = %mac, pod, %interface, "A stranger uses an address of a pool; it is quarantined");
        }
        match silent.first() {
            _ if given_up => Err(given_up_on()),
            Some(gateway) if taken.is_empty() => Err(unreachable(*gateway, call).into()),
            _ if fit => Ok(Outcome::Fit),
            _ => Ok(Outcome::Taken(taken)),
        }
    }

    /// None: nothing can be heard, or nobody waits for it any more.
    async fn ask(
        &self,
        place: Place,
        questions: &[Question],
        pod: &str,
        cancelled: &CancellationToken,
    ) -> Option<Findings> {
        let interface = place.interface.clone();
        match net::probe(place, self.proc.clone(), questions, cancelled.cancelled()).await {
            _ if cancelled.is_cancelled() => None,
            Ok(findings) => {
                self.metrics.ended(match &findings {
                    Findings { taken, .. } if !taken.is_empty() => "taken",
                    Findings { silent, .. } if !silent.is_empty() => "unreachable",
                    Findings { .. } => "clean",
                });
                Some(findings)
            }
            Err(error) => {
                self.metrics.ended("unknown");
                warn!(%error, pod, interface, "Addresses could not be probed; they are given out as they are");
                None
            }
        }
    }
}

fn unreachable(gateway: IpAddr, call: &Call) -> CniError {
    let interface = &call.who.interface;
    CniError::new(Code::TryAgain, format!("gateway {gateway} does not answer on {interface}")).with_details(
        "see that the network's master interface leads to the gateway's segment, and that the pool's gateway is right; \
         detectGateway of the SpiderCoordinator, or the daemon's --enable-gateway-detection, has it probed",
    )
}

/// Who was found to use addresses in the course of one ADD.
#[derive(Default)]
pub(super) struct Strangers(BTreeMap<IpAddr, Mac>);

impl Strangers {
    /// Most that an error names.
    const NAMED: usize = 5;

    /// So many that something answers for addresses which nobody has: a switch or router that answers for others.
    const MANY: usize = 16;

    /// Whether it makes no sense to go on.
    pub(super) fn are_many(&self) -> bool {
        self.0.len() >= Self::MANY
    }

    pub(super) fn add(&mut self, more: BTreeMap<IpAddr, Mac>) {
        self.0.extend(more);
    }

    /// The error of an ADD that found nothing but strangers' addresses until its time was over.
    pub(super) fn error(&self) -> CniError {
        if self.0.is_empty() {
            return CniError::new(Code::TryAgain, "addresses in quarantine could not be probed").with_details(
                "no other address is left, and the interface hears nothing: see the daemon's log, or add addresses to a pool",
            );
        }
        let named = self.0.iter().take(Self::NAMED).map(|(address, mac)| format!("{address} by {mac}"));
        let named = named.collect::<Vec<_>>().join(", ");
        let more = self.0.len().saturating_sub(Self::NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        CniError::new(Code::TryAgain, format!("addresses are used by strangers: {named}{more}")).with_details(
            "take these addresses away from whoever has them, or out of the pools: excludeIPs, or a SpiderReservedIP",
        )
    }

    /// A failure to get a further address, with what was wrong with those before.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Cni(error) if !self.0.is_empty() => {
                let own = self.error();
                CniError::new(error.code, format!("{}; {}", own.msg, error.msg)).with_details(own.details).into()
            }
            failure => failure,
        }
    }
}
