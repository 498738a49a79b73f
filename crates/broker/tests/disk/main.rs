//! What is on disk outlives the process: clean stops, crashes, torn files, other brokers.

mod crash;
mod restart;
