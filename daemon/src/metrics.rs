//! Figures for Prometheus, under the names that dashboards of the field use, where there is one. Counts of pools are
//! taken from the state when someone scrapes, never kept beside it (Derived, not stored).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use spiderpool_core::node::Node;
use spiderpool_core::node::event::Now;

use crate::room::Measure;

/// The usual buckets for calls, in seconds, and finer ones below them: an ADD takes milliseconds here.
const CALL_BUCKETS: [f64; 15] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 0.5, 1.0, 3.0, 5.0, 7.0, 10.0, 15.0];

type FloatGauge = Gauge<f64, std::sync::atomic::AtomicU64>;

/// All figures of the daemon.
pub(crate) struct Metrics {
    registry: Registry,
    /// Allocations (ADD of the IPAM plugin).
    pub allocation: CallMetrics,
    /// Releases (DEL of the IPAM plugin).
    pub release: CallMetrics,
    /// Calls of the coordinator.
    pub coordinator: CallMetrics,
    /// The journal.
    pub journal: JournalMetrics,
    /// Probes of addresses and gateways.
    pub probes: ProbeMetrics,
    /// What the coordinator could not do as asked.
    pub warnings: Counter,
    pools: Family<PoolLabel, Gauge>,
    attachments: Gauge,
    waiting: Gauge,
    free: Gauge,
    reserve: Gauge,
}

/// Figures of one kind of call.
#[derive(Clone)]
pub(crate) struct CallMetrics {
    done: Counter,
    failed: Counter,
    failed_by_code: Family<CodeLabel, Counter>,
    no_pool: Counter,
    used_out: Counter,
    internal: Counter,
    duration: Histogram,
    latest: FloatGauge,
    average: FloatGauge,
    max: FloatGauge,
    min: FloatGauge,
    sums: Arc<Mutex<Sums>>,
}

#[derive(Default)]
struct Sums {
    calls: u64,
    seconds: f64,
    max: f64,
    min: Option<f64>,
}

/// Figures of the journal.
#[derive(Clone)]
pub(crate) struct JournalMetrics {
    duration: Histogram,
    rows: Histogram,
}

/// Figures of probes.
#[derive(Clone, Default)]
pub(crate) struct ProbeMetrics(Family<OutcomeLabel, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    /// The CNI error code.
    code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabel {
    pool: String,
    state: &'static str,
}

impl Metrics {
    /// Registers everything.
    pub(crate) fn new() -> Metrics {
        let mut registry = Registry::with_prefix("spiderpool");
        let allocation = CallMetrics::register(&mut registry, "ipam_allocation", "allocations");
        let release = CallMetrics::register(&mut registry, "ipam_release", "releases");
        let coordinator = CallMetrics::register(&mut registry, "coordinator_call", "calls of the coordinator plugin");
        let journal = JournalMetrics {
            duration: Histogram::new(exponential_buckets(0.0001, 2.0, 14)),
            rows: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
        };
        registry.register_with_unit(
            "journal_commit_duration",
            "Time of one durable commit, fsync included",
            Unit::Seconds,
            journal.duration.clone(),
        );
        registry.register("journal_commit_rows", "Rows of one commit", journal.rows.clone());
        let (probes, warnings) = (ProbeMetrics::default(), Counter::default());
        let help =
            "Probes before an answer, by outcome: clean, taken, unreachable, or unknown where none could be made";
        registry.register("probes", help, probes.0.clone());
        let help = "Settings of the coordinator that could not be followed; the log has them";
        registry.register("coordinator_warnings", help, warnings.clone());
        let (pools, attachments, waiting) = (Family::default(), Gauge::default(), Gauge::default());
        registry.register("pool_addresses", "Addresses leased to this node, by pool and state", pools.clone());
        registry.register("attachments", "Attachments that hold addresses", attachments.clone());
        registry.register("waiting_adds", "ADD calls that wait for an address", waiting.clone());
        let (free, reserve) = (Gauge::default(), Gauge::default());
        let (free_help, reserve_help) =
            ("Free bytes on the disk of the state folder", "Bytes kept there for DELs, of 8 MiB");
        registry.register_with_unit("state_free", free_help, Unit::Bytes, free.clone());
        registry.register_with_unit("state_reserve", reserve_help, Unit::Bytes, reserve.clone());
        Metrics {
            registry,
            allocation,
            release,
            coordinator,
            journal,
            probes,
            warnings,
            pools,
            attachments,
            waiting,
            free,
            reserve,
        }
    }

    /// Takes the counts from the state.
    pub(crate) fn observe(&self, node: &Node, room: Measure, now: Now) {
        self.pools.clear();
        for pool in node.leases().pools() {
            let counts = node.leases().counts(pool, now.boot);
            let idle = i64::try_from(counts.idle).unwrap_or(i64::MAX);
            let states = [
                ("in_use", counts.held),
                ("dying", counts.dying),
                ("cooling", counts.cooling),
                ("quarantined", counts.quarantined),
            ];
            let states = states.map(|(state, count)| (state, count as i64)).into_iter().chain([("free", idle)]);
            for (state, count) in states {
                self.pools.get_or_create(&PoolLabel { pool: pool.to_string(), state }).set(count);
            }
        }
        self.attachments.set(node.attachments().held().len() as i64);
        self.waiting.set(node.waiting() as i64);
        self.free.set(i64::try_from(room.free).unwrap_or(i64::MAX));
        self.reserve.set(i64::try_from(room.reserve).unwrap_or(i64::MAX));
    }

    /// The text that Prometheus scrapes (OpenMetrics 1.0).
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl CallMetrics {
    fn register(registry: &mut Registry, name: &str, what: &str) -> CallMetrics {
        let metrics = CallMetrics {
            done: Counter::default(),
            failed: Counter::default(),
            failed_by_code: Family::default(),
            no_pool: Counter::default(),
            used_out: Counter::default(),
            internal: Counter::default(),
            duration: Histogram::new(CALL_BUCKETS),
            latest: FloatGauge::default(),
            average: FloatGauge::default(),
            max: FloatGauge::default(),
            min: FloatGauge::default(),
            sums: Arc::default(),
        };
        let counters = [
            ("counts", "All", &metrics.done),
            ("failure_counts", "Failed", &metrics.failed),
            ("err_no_available_pool_counts", "No pool fits:", &metrics.no_pool),
            ("err_ip_used_out_counts", "Not now (code 11), most often for want of a free address:", &metrics.used_out),
            ("err_internal_counts", "Failed in the daemon or the kernel:", &metrics.internal),
        ];
        for (suffix, help, counter) in counters {
            registry.register(format!("{name}_{suffix}"), format!("{help} {what}"), counter.clone());
        }
        let by_code = metrics.failed_by_code.clone();
        registry.register(format!("{name}_failures"), format!("Failed {what} by CNI error code"), by_code);
        let duration = metrics.duration.clone();
        registry.register_with_unit(format!("{name}_duration"), format!("Time of {what}"), Unit::Seconds, duration);
        let gauges =
            [("latest", &metrics.latest), ("average", &metrics.average), ("max", &metrics.max), ("min", &metrics.min)];
        for (which, gauge) in gauges {
            let name = format!("{name}_{which}_duration");
            registry.register_with_unit(name, format!("{which} time of {what}"), Unit::Seconds, gauge.clone());
        }
        metrics
    }

    /// A call has ended: with a CNI error code, or well.
    pub(crate) fn ended(&self, took: Duration, code: Option<u32>) {
        let seconds = took.as_secs_f64();
        self.done.inc();
        self.duration.observe(seconds);
        if let Some(code) = code {
            self.failed.inc();
            self.failed_by_code.get_or_create(&CodeLabel { code }).inc();
            match code {
                100 => self.no_pool.inc(),
                11 => self.used_out.inc(),
                5 | 101.. => self.internal.inc(),
                _ => 0,
            };
        }
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.calls += 1;
        sums.seconds += seconds;
        sums.max = sums.max.max(seconds);
        sums.min = Some(sums.min.map_or(seconds, |min| min.min(seconds)));
        self.latest.set(seconds);
        self.average.set(sums.seconds / sums.calls as f64);
        self.max.set(sums.max);
        self.min.set(sums.min.unwrap_or(seconds));
    }
}

impl ProbeMetrics {
    /// A probe has ended.
    pub(crate) fn ended(&self, outcome: &'static str) {
        self.0.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}

impl JournalMetrics {
    /// A batch is on disk.
    pub(crate) fn committed(&self, took: Duration, rows: usize) {
        self.duration.observe(took.as_secs_f64());
        self.rows.observe(rows as f64);
    }
}
