//! Hostile and broken input: what hosts answer, what plan files hold, what journals became. Nothing
//! of it panics or reaches a terminal as it is.

#[path = "../../fuzz/bodies.rs"]
mod bodies;
mod fuzz;
mod shell;
mod shown;
