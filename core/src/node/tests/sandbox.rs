//! Plans of sandboxes: what the coordinator's ADD and DEL write.

use super::*;
use crate::plan::{Object, Plan, Side, Sysctl};

fn plan(value: &str) -> Plan {
    let object = Object::from(Sysctl { side: Side::Pod, key: "net/ipv4/x".into(), value: value.into() });
    Plan { want: [("net1".to_owned(), object)].into(), ..Plan::default() }
}

impl Bed {
    fn plumb(&mut self, interface: &str, second: u64, netns: Netns, plan: Plan) -> Reply {
        self.tickets += 1;
        let (ticket, who, started) = (self.tickets, who("a", interface), at(second));
        let pod = PodId::default();
        self.happen(Event::Plumb(Box::new(Plumb { ticket, who, started, pod, netns, plan })));
        self.replies[&ticket].clone()
    }

    fn unplumb(&mut self, interface: &str, second: u64) {
        self.tickets += 1;
        self.happen(Event::Unplumb { ticket: self.tickets, who: who("a", interface), started: at(second) });
        assert_eq!(self.replies[&self.tickets], Reply::Done, "DEL always ends");
    }

    fn unplumbed(&mut self, interface: &str, plan: Plan) {
        self.tickets += 1;
        self.happen(Event::Unplumbed { ticket: self.tickets, who: who("a", interface), plan });
        assert_eq!(self.replies[&self.tickets], Reply::Done);
    }

    fn sandbox(&self) -> Option<&Sandbox> {
        self.node.attachments().sandboxes().get("a")
    }
}

/// Rule: Durable first. One plan a sandbox, amended by later interfaces, gone with the last.
#[test]
fn a_plan_lives_as_long_as_one_interface_needs_it() {
    let mut bed = Bed::new();
    assert_eq!(bed.plumb("net1", 0, netns("a", 1), plan("1")), Reply::Done);
    assert_eq!(bed.plumb("net2", 1, netns("a", 1), plan("2")), Reply::Done);
    bed.restart();
    let sandbox = bed.sandbox().unwrap();
    assert_eq!(sandbox.parts, [(who("a", "net1"), at(0)), (who("a", "net2"), at(1))].into());
    assert_eq!(sandbox.plan, plan("2"));
    bed.unplumb("net1", 2);
    assert_eq!(bed.sandbox().unwrap().parts.len(), 2, "the word comes before the deed");
    bed.unplumbed("net1", plan("3"));
    assert_eq!((bed.sandbox().unwrap().parts.len(), &bed.sandbox().unwrap().plan), (1, &plan("3")));
    bed.unplumbed("net2", Plan::default());
    bed.unplumbed("net2", Plan::default());
    assert_eq!(bed.sandbox(), None);
    assert!(!bed.rows.contains_key(&Key::Sandbox("a".into())));
}

/// Rule: Last word by start. The coordinator's word is its own: the IPAM plugin's is another.
#[test]
fn a_del_refuses_plans_that_started_before_it() {
    let mut bed = Bed::new();
    bed.del(&who("a", "net1"), at(9));
    assert_eq!(bed.plumb("net1", 1, netns("a", 1), plan("1")), Reply::Done);
    bed.unplumb("net1", 5);
    bed.restart();
    let overtaken = Reply::Refused(Refused::Overtaken);
    assert_eq!(bed.plumb("net1", 4, netns("a", 1), plan("2")), overtaken);
    assert_eq!(bed.plumb("net1", 5, netns("a", 1), plan("2")), overtaken);
    assert_eq!(bed.sandbox().unwrap().plan, plan("1"));
    assert_eq!(bed.plumb("net1", 6, netns("a", 1), plan("2")), Reply::Done);
    bed.now.boot = at(7) + WORD_KEPT;
    assert_eq!(bed.plumb("net1", 6, netns("a", 1), plan("3")), Reply::Refused(Refused::TooOld));
}

/// Rule: Last word by start. A late retry does not make the part look older than it is.
#[test]
fn an_older_plan_of_an_interface_keeps_the_newer_start() {
    let mut bed = Bed::new();
    bed.plumb("net1", 5, netns("a", 1), plan("1"));
    bed.plumb("net1", 3, netns("a", 1), plan("1"));
    assert_eq!(bed.sandbox().unwrap().parts[&who("a", "net1")], at(5));
}

/// Another namespace is another sandbox. The plan of one that is gone says what is still to be taken from the host.
#[test]
fn a_plan_belongs_to_a_namespace() {
    let mut bed = Bed::new();
    bed.plumb("net1", 0, netns("a", 1), plan("1"));
    bed.plumb("net2", 1, netns("a", 2), plan("2"));
    assert_eq!(bed.sandbox().unwrap().parts, [(who("a", "net2"), at(1))].into());
    bed.sandbox_gone("a", &netns("a", 2));
    assert!(bed.sandbox().is_some());
}
