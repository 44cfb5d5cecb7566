//! The daemon is killed, again and again, under calls; then what it had answered is held against what it knows.

mod life;
mod lost;
mod power;
mod storm;
