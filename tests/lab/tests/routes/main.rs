//! Rules and routes with real macvlan, as `ip` and packets show them: both families, several interfaces, every setting of
//! the coordinator, CHECK of each object. docs/routes.md says why each of them must be there. And probes of addresses and
//! gateways, before an address is given out; and addresses that change hands at once.

mod check;
mod life;
mod policy;
mod probe;
mod reuse;
mod rig;
mod settings;
mod several;
mod six;
mod traps;
