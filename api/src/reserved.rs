//! SpiderReservedIP: addresses that no pool gives out. They may lie in pools or not, and be in use already: a Pod
//! keeps such an address until it is made anew.

use serde::{Deserialize, Serialize};
use spiderpool_core::address::AddressSet;

use crate::invalid::{Faults, Invalid};
use crate::metadata::Metadata;
use crate::pool::{check_version, ranges};

/// Reserved addresses of one family. Cluster scoped, without status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpiderReservedIP {
    /// Name and state.
    pub metadata: Metadata,
    /// What is reserved.
    pub spec: SpiderReservedIPSpec,
}

/// What is reserved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpiderReservedIPSpec {
    /// 4 or 6; inferred from the first entry of `ips` if absent. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_version: Option<i64>,
    /// Addresses and ranges, as in a pool. None: nothing is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ips: Option<Vec<String>>,
}

impl SpiderReservedIP {
    /// The reserved addresses; none of an object that is being deleted.
    ///
    /// # Errors
    /// Every field that is not valid.
    pub fn parse(&self) -> Result<AddressSet, Vec<Invalid>> {
        let mut faults = Faults::default();
        self.metadata.check_name(&mut faults);
        let ranges = ranges("spec.ips", &self.spec.ips, None, &mut faults);
        let family = ranges.first().map(|(_, range)| range.family());
        if let Some(version) = self.spec.ip_version {
            check_version(version, family, "of spec.ips", &mut faults);
        }
        for (place, range) in ranges.iter().filter(|(_, range)| Some(range.family()) != family) {
            let reason = format!("{range} is {}, the first entry is not; use one object a family", range.family());
            faults.add(format!("spec.ips[{place}]"), reason);
        }
        let live = ranges.into_iter().map(|(_, range)| range).filter(|_| !self.metadata.terminating());
        faults.or(live.collect())
    }
}

#[cfg(test)]
mod tests;
