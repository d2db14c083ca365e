//! The log as a whole, on real files.

mod harness;
mod appends;
mod reads;
mod lends;
mod recoveries;
mod damages;
mod changes;
mod times;
mod transactions;
mod directories;
mod journal;
mod compactions;
mod swaps;
mod passes;
mod gaps;
mod committed;
mod keyed;
mod keyed_model;
mod model;
