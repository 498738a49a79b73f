//! Core's machines against the broker's machine, by seed, without the client between them: the tests hand requests and
//! answers over themselves, and lose, delay and repeat them. There are no tasks, so a round takes a few milliseconds.

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
