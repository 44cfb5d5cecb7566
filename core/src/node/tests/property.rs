//! Any history of a node, its kernel and its feeder keeps the rules: arbitrary calls with arbitrary stamps, honest
//! evidence, grants, recalls, pools that change hands, a crash before or after any commit, and journals that are lost
//! beside caches that say too little or too much.

use proptest::prelude::*;

use self::world::World;

mod adoption;
mod around;
mod world;

/// What happens next. Numbers choose among what is there.
#[derive(Clone, Debug)]
enum Op {
    Add {
        sandbox: u8,
        interface: u8,
        age: u8,
        wants: u8,
        patience: u8,
    },
    Del {
        sandbox: u8,
        interface: u8,
        age: u8,
    },
    Abandon(u8),
    /// The probe of what an ADD was given ends; `silent`: its gateway does not answer; `deaf`: nothing can be heard.
    Probe {
        choice: u8,
        silent: bool,
        deaf: bool,
    },
    /// Strangers use these addresses, and no others.
    Strangers(u16),
    Plumb {
        sandbox: u8,
        interface: u8,
        age: u8,
    },
    Unplumb {
        sandbox: u8,
        interface: u8,
        age: u8,
    },
    /// The kernel drops an address that was given back.
    Unlink(u8),
    /// A sandbox's namespace ends.
    Die(u8),
    /// The kernel is looked at, and what it proves is told.
    Look,
    Open,
    Close,
    Grant {
        pool: u8,
        count: u8,
    },
    /// The last grant is heard again.
    Repeat,
    Deny(u8),
    /// Addresses belong to another pool, or to none: they are recalled as withdrawn.
    Move {
        addresses: u16,
        pool: u8,
    },
    /// Another node leases what is free, and lets go of all it has.
    Elsewhere {
        addresses: u16,
    },
    Pass(u8),
    /// The machine starts anew.
    Boot,
    /// Links alone are looked at, as at each start of the daemon.
    LookAgain,
    /// The journal is lost, and what is there is adopted: links, and cached results, of which some are missing, some are
    /// stale and some contradict others.
    LoseJournal {
        kept: u64,
        invented: Vec<(u8, u8, u8)>,
    },
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Served,
    /// The process ends before the commit: nothing is on disk, nothing was said.
    Lost,
    /// The process ends after the commit, before anything was said.
    Unsaid,
}

fn op() -> impl Strategy<Value = Op> {
    let who = || (0..3_u8, 0..2_u8, 0..12_u8);
    prop_oneof![
        12 => (who(), (1..8_u8, 0..2_u8), 0..10_u8).prop_map(|((sandbox, interface, age), (pools, probes), patience)| {
            Op::Add { sandbox, interface, age, wants: pools | probes << 3, patience }
        }),
        8 => who().prop_map(|(sandbox, interface, age)| Op::Del { sandbox, interface, age }),
        2 => any::<u8>().prop_map(Op::Abandon),
        8 => (any::<u8>(), prop::bool::weighted(0.1), prop::bool::weighted(0.2))
            .prop_map(|(choice, silent, deaf)| Op::Probe { choice, silent, deaf }),
        2 => (any::<u16>(), any::<u16>()).prop_map(|(some, of)| Op::Strangers(some & of)),
        2 => who().prop_map(|(sandbox, interface, age)| Op::Plumb { sandbox, interface, age }),
        2 => who().prop_map(|(sandbox, interface, age)| Op::Unplumb { sandbox, interface, age }),
        4 => any::<u8>().prop_map(Op::Unlink),
        2 => (0..3_u8).prop_map(Op::Die),
        6 => Just(Op::Look),
        2 => Just(Op::Open),
        1 => Just(Op::Close),
        6 => (0..3_u8, 1..4_u8).prop_map(|(pool, count)| Op::Grant { pool, count }),
        1 => Just(Op::Repeat),
        4 => (0..3_u8).prop_map(Op::Deny),
        3 => (any::<u16>(), 0..4_u8).prop_map(|(addresses, pool)| Op::Move { addresses, pool }),
        2 => any::<u16>().prop_map(|addresses| Op::Elsewhere { addresses }),
        4 => (0..40_u8).prop_map(Op::Pass),
        1 => prop_oneof![9 => Just(Op::Pass(255)), 1 => Just(Op::Boot)],
        1 => Just(Op::LookAgain),
        1 => (any::<u64>(), any::<u64>(), prop::collection::vec((0..3_u8, 0..2_u8, any::<u8>()), 0..6))
            .prop_map(|(some, more, invented)| Op::LoseJournal { kept: some | more, invented }),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![20 => Just(End::Served), 1 => Just(End::Lost), 1 => Just(End::Unsaid)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Rules: One holder; Only from the lease; Durable first; Shrink by consent; Live means held; Two UIDs, one name;
    /// All or nothing; Last word by start; Derived, not stored.
    #[test]
    fn every_history_keeps_the_rules(steps in prop::collection::vec((op(), end()), 1..80)) {
        let mut world = World::new();
        for (op, end) in steps {
            world.step(&op, end);
        }
        world.settle();
    }
}
