//! The stories of the IPAM plugin, each from top to bottom.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use spiderpool_cni::failpoint::{Point, reach};
use spiderpool_cni::types::{CniError, CniResult, Code, IpConfiguration, Route};
use spiderpool_core::address::Family;
use spiderpool_core::node::attachment::{Allocation, Held, Netns};
use spiderpool_core::node::event::{Add, Event, Refused, Reply};
use spiderpool_core::select::{Refusals, Request, Want, select};
use tokio_util::sync::CancellationToken;

use crate::call::{Call, Ending, Failure};
use crate::clock;
use crate::keeper::Keeper;
use crate::net::namespace;
use crate::view::View;

mod probe;

pub(crate) use probe::Prober;
use probe::{Outcome, Strangers};

/// What the stories need.
#[derive(Clone)]
pub(crate) struct Ipam {
    /// The state.
    pub keeper: Keeper,
    /// The world.
    pub view: View,
    /// How long an ADD may wait for an address.
    pub budget: Duration,
    /// Asks the segment of an interface.
    pub prober: Prober,
}

impl Ipam {
    /// ADD: select pools, take an address of each family, probe them where that is switched on, answer once what was
    /// taken is on disk. An address that a stranger uses is passed over.
    pub(crate) async fn add(&self, call: &Call, cancelled: &CancellationToken) -> Ending {
        let until = clock::boot().saturating_add(self.budget.as_nanos() as u64);
        reach(Point::IpamAddBegun);
        let netns = identify(call)?;
        reach(Point::IpamAddIdentified);
        let _admitted = tokio::select! {
            admitted = self.keeper.admit() => admitted?,
            () = tokio::time::sleep(clock::until(until)) => return Err(busy()),
        };
        let probes = self.prober.switched_on(&self.view.world());
        let add = Add {
            ticket: 0,
            who: call.who.clone(),
            started: call.started,
            pod: call.pod.clone(),
            netns,
            wants: Vec::new(),
            until,
            probes: probes.conflict,
        };
        let mut strangers = Strangers::default();
        loop {
            let taken = self.take(call, &add, cancelled).await;
            let allocations = taken.map_err(|failure| strangers.explain(failure))?;
            reach(Point::IpamAddRecorded);
            match self.prober.probe(call, &add.netns, &allocations, probes, cancelled).await? {
                Outcome::Fit => return Ok(result(&allocations).render(call.config.cni_version)),
                Outcome::Taken(more) => strangers.add(more),
            }
            if clock::boot() >= until || strangers.are_many() {
                return Err(strangers.error().into());
            }
        }
    }

    /// Takes an address of each family. While it waits it selects again whenever the world changes.
    async fn take(&self, call: &Call, add: &Add, cancelled: &CancellationToken) -> Result<Vec<Allocation>, Failure> {
        loop {
            let mut changes = self.view.changes();
            // A retry is answered from the record, whatever has become of the pools since.
            let (wants, unserved) = match self.wants(call) {
                Ok(wants) => (wants, None),
                Err(error) => (Vec::new(), Some(error)),
            };
            let given_up = cancelled.child_token();
            let changed = async {
                // The view lives as long as the daemon.
                let _ = changes.changed().await;
                given_up.cancel();
                std::future::pending::<()>().await;
            };
            let event = |ticket| Event::Add(Box::new(Add { ticket, wants, ..add.clone() }));
            let reply = tokio::select! {
                reply = self.keeper.call_unless(&given_up, event) => reply?,
                () = changed => None,
            };
            match reply {
                Some(Reply::Added(allocations)) => return Ok(allocations),
                Some(Reply::Refused(refused)) => return Err(unserved.unwrap_or_else(|| refusal(&refused)).into()),
                Some(Reply::Done) | None if cancelled.is_cancelled() => return Err(given_up_on()),
                Some(Reply::Done) | None => {}
            }
        }
    }

    fn wants(&self, call: &Call) -> Result<Vec<Want>, CniError> {
        let config = call.config.ipam()?;
        if config.match_master_subnet {
            let msg = "ipam.match_master_subnet: true is not supported; leave the key out";
            return Err(CniError::new(Code::UnsupportedField, msg));
        }
        let request = Request {
            pod: call.pod.clone(),
            default_v4: config.default_ipv4_ippool,
            default_v6: config.default_ipv6_ippool,
            clean_gateway: config.clean_gateway,
            pod_labels: None,
            network: None,
        };
        select(&request, &self.view.world()).map_err(|refusals| match refusals {
            Refusals::WrongInput(_) => CniError::new(Code::InvalidConfiguration, refusals.to_string()),
            _ => CniError::new(Code::NoPool, refusals.to_string()),
        })
    }

    /// DEL: the addresses are taken back from the record; the kernel decides when they can be given out again.
    pub(crate) async fn del(&self, call: &Call) -> Ending {
        let (who, started) = (call.who.clone(), call.started);
        reach(Point::IpamDelBegun);
        self.keeper.call(|ticket| Event::Del { ticket, who, started }).await?;
        reach(Point::IpamDelRecorded);
        Ok(String::new())
    }

    /// CHECK: the record says what the runtime's result says, of the same namespace.
    pub(crate) async fn check(&self, call: &Call) -> Ending {
        let who = call.who.clone();
        let held = self.keeper.look(move |node, _| node.attachments().held().get(&who).cloned()).await?;
        let Some(held) = held else {
            let msg = format!("container {} holds no address on {}", call.who.container, call.who.interface);
            return Err(CniError::new(Code::UnknownContainer, msg).into());
        };
        let previous = call.config.previous_result()?.ok_or_else(|| {
            CniError::new(Code::InvalidConfiguration, "prevResult is missing; CHECK needs the result of the ADD")
        })?;
        let differences = differences(&held, &identify(call)?, &previous);
        if differences.is_empty() {
            return Ok(String::new());
        }
        Err(CniError::new(Code::Difference, differences.join("; ")).into())
    }
}

/// The namespace that a call names, known by more than its path.
fn identify(call: &Call) -> Result<Netns, CniError> {
    // In place, as it takes microseconds: a hop to a blocking thread and back costs more than the work.
    let found = tokio::task::block_in_place(|| namespace::identify(&call.netns));
    found.map_err(|error| CniError::new(Code::InvalidEnvironment, format!("CNI_NETNS: {error}")))
}

fn result(allocations: &[Allocation]) -> CniResult {
    let mut result = CniResult::default();
    for Allocation { address, terms, .. } in allocations {
        result.ips.push(IpConfiguration::new(with_prefix(*address, terms.prefix), terms.gateway));
        let further = terms.routes.iter().map(|route| Route::new(route.destination, Some(route.gateway)));
        let default = terms.gateway.filter(|_| terms.default_route);
        let default = default.map(|gateway| Route::new(everywhere(Family::of(address)), Some(gateway)));
        result.routes.extend(further.chain(default));
    }
    result
}

/// The address with its subnet's prefix length; a length that the family does not have counts as a single host's.
fn with_prefix(address: IpAddr, prefix: u8) -> IpNet {
    IpNet::new(address, prefix).unwrap_or_else(|_| IpNet::from(address))
}

fn everywhere(family: Family) -> IpNet {
    match family {
        Family::V4 => Ipv4Net::default().into(),
        Family::V6 => Ipv6Net::default().into(),
    }
}

fn differences(held: &Held, netns: &Netns, previous: &CniResult) -> Vec<String> {
    let mut found = Vec::new();
    if !held.netns.is_same(netns) {
        found.push(format!("CNI_NETNS is not the namespace {} that the addresses were given into", held.netns.path));
    }
    let recorded: BTreeSet<(IpNet, Option<IpAddr>)> = held
        .allocations
        .iter()
        .map(|held| (with_prefix(held.address, held.terms.prefix), held.terms.gateway))
        .collect();
    let said: BTreeSet<(IpNet, Option<IpAddr>)> = previous.ips.iter().map(|ip| (ip.address, ip.gateway)).collect();
    let text = |(address, gateway): &(IpNet, Option<IpAddr>)| {
        gateway.map_or_else(|| format!("address {address}"), |gateway| format!("address {address} gateway {gateway}"))
    };
    found.extend(recorded.difference(&said).map(|one| format!("prevResult lacks {}", text(one))));
    found
}

fn refusal(refused: &Refused) -> CniError {
    let error = CniError::new(Code::TryAgain, refused.to_string());
    match refused {
        Refused::Exhausted(_) => error.with_details(
            "add addresses to a pool, name a further pool, or wait: dying addresses come free when their sandbox is gone",
        ),
        Refused::Overtaken | Refused::TooOld | Refused::Crowded | Refused::Unknown => error,
    }
}

fn given_up_on() -> Failure {
    CniError::new(Code::TryAgain, "the caller gave up while it waited").into()
}

fn busy() -> Failure {
    CniError::new(Code::TryAgain, "too many ADD calls are under way on this node; try again").into()
}
