//! The broker. Modules in layer order, from the ground up: a module imports only from those declared above it.

/// Frames on sockets, connections to peers, the table of APIs.
pub(crate) mod net;
