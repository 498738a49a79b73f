//! Milena: broker.
