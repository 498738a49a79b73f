//! Core's machines alone against the broker's machine, by seed: the network between them loses, delays and repeats, and
//! there is no task and no socket, so a round takes a few milliseconds.

mod brokers;
mod producer;
mod source;

use milena_sim::seeds;

#[test]
fn a_producer_writes_once_in_order_and_says_what_may_have_been_written() {
    seeds::play(300, producer::play);
}

#[test]
fn a_source_goes_on_where_it_was_sought_and_reaches_the_end() {
    seeds::play(200, source::play);
}
