//! By Existing Certificate, over real TLS against a real API server: who is let in, by what, and who is not. And the table of
//! every operation, by every authentication mode, on phones in every state.

#[path = "harness/mod.rs"]
mod harness;
#[path = "product/mod.rs"]
mod product;

#[path = "certificates/impersonation.rs"]
mod impersonation;
#[path = "certificates/matrix.rs"]
mod matrix;
#[path = "certificates/roots.rs"]
mod roots;
#[path = "certificates/support.rs"]
mod support;
#[path = "certificates/table.rs"]
mod table;
