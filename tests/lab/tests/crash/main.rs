//! The daemon is killed, again and again, under calls, or its disk fails; then what it had answered is held against
//! what it knows.

mod boot;
mod clock;
mod full;
mod image;
mod life;
mod lost;
mod points;
mod power;
mod read_only;
mod storm;
mod tombstones;
