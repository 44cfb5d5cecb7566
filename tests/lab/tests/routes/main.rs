//! Rules and routes with real macvlan, as `ip` and packets show them: both families, several interfaces, every setting of
//! the coordinator, and CHECK of each object. docs/routes.md says why each of them must be there.

mod check;
mod life;
mod policy;
mod rig;
mod settings;
mod several;
mod six;
mod traps;
