//! The wire: its codec and both sides of a session, against captured sessions and against everything else.

mod captures;
mod corpus;
mod every_session;
mod frames;
mod phones;
mod properties;
mod refusals;
mod sessions;
mod support;
