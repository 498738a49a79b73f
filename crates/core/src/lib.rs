//! Milena: core.
